import sys
from pathlib import Path
from playwright.sync_api import sync_playwright
with sync_playwright() as p:
    b=p.chromium.launch(executable_path='/usr/bin/chromium',args=['--no-sandbox','--disable-gpu'])
    pg=b.new_page(viewport={'width':1200,'height':900})
    svgs=sorted(Path('/tmp/ch').glob('f*.svg'))
    pg.set_content('<body style="background:#fff;margin:10px">'+''.join(f'<div style="display:inline-block;margin:8px">{s.read_text()[s.read_text().index("<svg"):]}</div>' for s in svgs)+'</body>')
    pg.screenshot(path='/tmp/ch/figs.png',full_page=True); b.close()
