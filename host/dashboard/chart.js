// Charts over time, drawn anew for the width there is.

import { h, replace, svg } from "./dom.js";
import { clock } from "./format.js";

const HEIGHT = 132;
const LEFT = 4, RIGHT = 52, TOP = 10, BOTTOM = 20;

// lines: [{name, kind, values, area}]; a value is a number or null.
export function chart(name, show) {
  const canvas = h("div", { class: "chart-canvas" });
  const tip = h("div", { class: "chart-tip", hidden: true });
  const element = h("figure", { class: "chart" }, canvas, tip);
  let shown = null;
  const draw = () => {
    if (!shown || canvas.clientWidth < 20) return;
    replace(canvas, drawn(name, shown, canvas.clientWidth, show));
  };
  new ResizeObserver(draw).observe(canvas);
  element.addEventListener("pointermove", (event) => point(event));
  element.addEventListener("pointerleave", () => point(null));

  function point(event) {
    const mark = canvas.querySelector(".chart-mark");
    if (!shown || !mark) return;
    const box = canvas.getBoundingClientRect();
    const width = box.width - LEFT - RIGHT;
    const last = shown.at.length - 1;
    const at = event ? Math.round(((event.clientX - box.left - LEFT) / width) * last) : -1;
    const outside = at < 0 || at > last;
    tip.hidden = outside;
    mark.classList.toggle("on", !outside);
    if (outside) return;
    const x = LEFT + (width * at) / last;
    mark.setAttribute("x1", x);
    mark.setAttribute("x2", x);
    replace(tip, h("div", { class: "chart-at" }, clock(shown.at[at]).slice(0, 8)),
      shown.lines.map((line) => h("div", {}, h("i", { class: `dot ${line.kind}` }), `${line.name} `,
        h("b", {}, line.values[at] === null ? "–" : show(line.values[at])))));
    tip.style.left = `${Math.min(Math.max(x, 60), box.width - 80)}px`;
  }

  return {
    element,
    set(at, lines, max) {
      shown = { at, lines, max };
      draw();
    },
  };
}

function nice(max) {
  if (max <= 0) return 1;
  const power = 10 ** Math.floor(Math.log10(max));
  return [1, 1.5, 2, 3, 4, 5, 6, 8, 10].map((it) => it * power).find((it) => it >= max * 0.999);
}

function drawn(name, { at, lines, max }, width, show) {
  const all = lines.flatMap((it) => it.values).filter((it) => it !== null);
  const top = max ?? nice(Math.max(0, ...all));
  const inner = width - LEFT - RIGHT;
  const x = (index) => LEFT + (inner * index) / Math.max(1, at.length - 1);
  const y = (value) => TOP + (HEIGHT - TOP - BOTTOM) * (1 - Math.min(value, top) / top);
  const grid = [0, 0.5, 1].map((share) => [
    svg("line", { class: "chart-grid", x1: LEFT, x2: LEFT + inner, y1: y(top * share), y2: y(top * share) }),
    svg("text", { class: "chart-label", x: LEFT + inner + 8, y: y(top * share) + 4 }, show(top * share)),
  ]);
  const times = [0, 0.5].map((share) => {
    const index = Math.round((at.length - 1) * share);
    return svg("text", { class: "chart-label", x: x(index), y: HEIGHT - 4, "text-anchor": share ? "middle" : "start" },
      clock(at[index]).slice(0, 5));
  });
  const now = svg("text", { class: "chart-label", x: LEFT + inner, y: HEIGHT - 4, "text-anchor": "end" }, "now");
  const paths = lines.map((line) => runs(line.values).map((run) => {
    const points = run.map((index) => `${x(index).toFixed(1)} ${y(line.values[index]).toFixed(1)}`);
    const single = run.length === 1;
    const path = `M${points.join("L")}`;
    const [first, last] = [x(run[0]).toFixed(1), x(run.at(-1)).toFixed(1)];
    return [
      line.area && !single && svg("path", { class: `chart-area ${line.kind}`, d: `${path}L${last} ${y(0)}L${first} ${y(0)}Z` }),
      single
        ? svg("circle", { class: `chart-point ${line.kind}`, cx: first, cy: y(line.values[run[0]]), r: 2.2 })
        : svg("path", { class: `chart-line ${line.kind}`, d: path }),
    ];
  }));
  const mark = svg("line", { class: "chart-mark", x1: 0, x2: 0, y1: TOP, y2: HEIGHT - BOTTOM });
  const said = lines.map((it) => `${it.name} ${lastOf(it.values, show)}`).join(", ");
  return svg("svg", { width, height: HEIGHT, role: "img", "aria-label": `${name} over time; last: ${said}` },
    grid, times, now, paths, mark);
}

function lastOf(values, show) {
  const last = values.findLast((it) => it !== null);
  return last === undefined ? "none" : show(last);
}

// Indexes of values that follow each other without a gap.
function runs(values) {
  const found = [];
  values.forEach((value, index) => {
    if (value === null) return;
    if (index > 0 && values[index - 1] !== null && found.length > 0) found.at(-1).push(index);
    else found.push([index]);
  });
  return found;
}
