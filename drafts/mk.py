"""mk.py SRC.txt OUT.ipynb : cells separated by lines '@@ md' or '@@ code [tag,tag]', then optional '@name:', '@caption:', '@alt:' lines (one line each)."""
import json, sys, re
from pathlib import Path
src, out = map(Path, sys.argv[1:3])
number = out.stem.split("_")[0]
cells=[]
for place, part in enumerate(re.split(r"(?m)^@@ ", src.read_text())[1:]):
    head, _, body = part.partition("\n")
    kind, *tags = head.split()
    meta = {}
    if tags: meta["tags"] = tags[0].split(",")
    words = {}
    while (m := re.match(r"@(name|caption|alt): (.*)\n", body)):
        words[m[1]] = m[2]; body = body[m.end():]
    if words:
        meta["mystnb"] = {"figure": {"name": words["name"], "caption": words["caption"]}, "image": {"alt": words["alt"]}}
    body = body.strip("\n")
    lines = body.splitlines(keepends=True)
    cell = {"cell_type": "markdown" if kind == "md" else "code", "id": f"{number}-{place:02d}", "metadata": meta, "source": lines}
    if kind != "md": cell |= {"execution_count": None, "outputs": []}
    cells.append(dict(sorted(cell.items())))
nb={"cells": cells, "metadata": {"kernelspec": {"display_name":"Python 3","language":"python","name":"python3"},"language_info":{"name":"python"}}, "nbformat":4,"nbformat_minor":5}
out.write_text(json.dumps(nb, indent=1, ensure_ascii=False)+"\n")
words=sum(len(re.findall(r"\w+", "".join(c["source"]))) for c in cells if c["cell_type"]=="markdown")
code=sum(len(c["source"]) for c in cells if c["cell_type"]=="code")
long=[(c["id"],len(l.rstrip("\n"))) for c in cells if c["cell_type"]=="code" for l in c["source"] if len(l.rstrip("\n"))>79]
tall=[(c["id"],len(c["source"])) for c in cells if c["cell_type"]=="code" and len(c["source"])>16 and "remove-cell" not in c["metadata"].get("tags",[])]
print(out.name, len(cells),"cells", words,"words", code,"lines", "long",long,"tall",tall)
