// What one pixel costs, by its distance from a label and by its score: sliders for what the losses leave open.
"use strict";
(() => {
  const soft = (distance, sigma) => Math.exp(-(distance ** 2) / (2 * sigma ** 2));
  const cross = (p, y) => -y * Math.log(p) - (1 - y) * Math.log(1 - p);
  const focal = (p, hit, alpha) => (hit ? (1 - p) ** alpha : p ** alpha) * cross(p, hit);
  // Of the score p of a pixel, which is labelled where the distance is less than half a pixel.
  const COST = {
    "bce": (p, d) => cross(p, d < 0.5 ? 1 : 0),
    "focal": (p, d, o) => focal(p, d < 0.5 ? 1 : 0, o.alpha),
    "soft-bce": (p, d, o) => cross(p, soft(d, o.sigma)),
    "distance-aware": (p, d, o) =>
      (d < 0.5 ? 1 : (1 - soft(d, o.sigma)) ** o.beta) * focal(p, d < 0.5 ? 1 : 0, o.alpha),
  };
  const TITLES = {"bce": "BCE", "focal": "focal", "soft-bce": "soft BCE", "distance-aware": "distance-aware"};
  const GIVEN = {
    p: ["score", 0.9, 0.01, 0.99, 0.01], d: ["distance, px", 2, 0, 8, 1], sigma: ["σ, px", 1.5, 0.3, 4, 0.1],
    alpha: ["α (γ)", 2, 0, 5, 0.5], beta: ["β", 4, 0, 8, 0.5],
  };

  const cost = (name, p, d, o) => COST[name](p, d, o);
  // By the logit of p: what a step of training sees.
  function gradient(name, p, d, o) {
    const logit = Math.log(p / (1 - p)), at = (x) => cost(name, 1 / (1 + Math.exp(-x)), d, o), h = 1e-4;
    return (at(logit + h) - at(logit - h)) / (2 * h);
  }
  window.falloff = {cost, gradient, names: Object.keys(COST)};

  const W = 340, H = 230, LEFT = 44, RIGHT = 10, TOP = 24, LOW = 40;

  function chart(title, xs, x, ticks, curves, cursor) {
    const all = Object.values(curves).flat();
    const high = Math.max(...all, 1e-9), low = Math.min(...all, 0), span = high - low;
    const u = (v) => LEFT + ((v - ticks[0]) / (ticks.at(-1) - ticks[0])) * (W - LEFT - RIGHT);
    const v = (y) => TOP + ((high - y) / span) * (H - TOP - LOW);
    const lines = Object.entries(curves).map(([name, ys]) => `<polyline class="${name}" points="${
      ys.map((y, i) => `${u(xs[i]).toFixed(1)},${v(y).toFixed(1)}`).join(" ")}"/>`).join("");
    const grid = [low, low + span / 2, high].map((y) =>
      `<line class="grid" x1="${LEFT}" x2="${W - RIGHT}" y1="${v(y)}" y2="${v(y)}"/>` +
      `<text x="${LEFT - 5}" y="${v(y) + 4}" text-anchor="end">${y.toFixed(span < 1 ? 2 : 1)}</text>`).join("");
    const marks = ticks.map((t) => `<text x="${u(t)}" y="${H - LOW + 16}" text-anchor="middle">${t}</text>`).join("");
    return `<svg viewBox="0 0 ${W} ${H}" role="img" aria-label="${title} by ${x}">${grid}${marks}` +
      `<line class="cursor" x1="${u(cursor)}" x2="${u(cursor)}" y1="${TOP}" y2="${H - LOW}"/>${lines}` +
      `<text x="${LEFT}" y="14">${title}</text>` +
      `<text x="${(LEFT + W - RIGHT) / 2}" y="${H - 6}" text-anchor="middle">${x}</text></svg>`;
  }

  function explorer(home) {
    const sliders = Object.entries(GIVEN).map(([key, [words, value, low, high, step]]) =>
      `<label>${words} <span>${value}</span><input type="range" name="${key}" value="${value}" min="${low}" ` +
      `max="${high}" step="${step}"></label>`).join("");
    home.insertAdjacentHTML("beforeend", `<div class="controls">${sliders}<label>draw <select name="what"><option value="cost">the loss` +
      `</option><option value="gradient">its gradient by the logit</option></select></label></div>` +
      `<div class="charts"></div><p class="read" aria-live="polite"></p>`);
    const field = (name) => home.querySelector(`[name=${name}]`);

    function draw() {
      const o = Object.fromEntries(Object.keys(GIVEN).map((key) => [key, Number(field(key).value)]));
      const what = field("what").value, of = window.falloff[what], names = window.falloff.names;
      for (const key of Object.keys(GIVEN)) field(key).previousElementSibling.textContent = field(key).value;
      const away = Array.from({length: 81}, (_, i) => i / 10), scores = Array.from({length: 99}, (_, i) => (i + 1) / 100);
      const by = (f) => Object.fromEntries(names.map((name) => [name, f(name)]));
      const words = what === "cost" ? "loss" : "gradient";
      home.querySelector(".charts").innerHTML =
        chart(`${words} of a score of ${o.p}`, away, "distance from the label, px", [0, 2, 4, 6, 8],
              by((name) => away.map((d) => of(name, o.p, d, o))), o.d) +
        chart(`${words} at ${o.d} px`, scores, "score", [0, 0.25, 0.5, 0.75, 1],
              by((name) => scores.map((p) => of(name, p, o.d, o))), o.p);
      home.querySelector(".read").innerHTML = `At ${o.d} px a score of ${o.p} has the ${words}: ` + names.map((name) =>
        `<span class="${name}">${TITLES[name]} ${of(name, o.p, o.d, o).toPrecision(2)}</span>`).join(", ") + ".";
    }
    home.addEventListener("input", draw);
    draw();
  }

  document.querySelectorAll(".explore").forEach(explorer);
})();
