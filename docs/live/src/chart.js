// A line over one axis, as SVG that takes its colours from the style sheet.

const [WIDTH, HEIGHT] = [480, 220];
const MARGIN = { left: 52, right: 12, top: 10, bottom: 38 };

/**
 * Draws a line chart.
 *
 * @param {SVGElement} svg
 * @param {{x: number, y: number}[]} points
 * @param {{xName: string, yName: string, now: {x: number, y: number}, marks: {x: number, text: string}[]}} options `now`: a point
 *   that stands out; `marks`: vertical lines.
 */
export function drawLine(svg, points, { xName, yName, now, marks }) {
  const xs = points.map(({ x }) => x);
  const highest = Math.max(...points.map(({ y }) => y)) || 1;
  const x = (value) => scale(value, Math.min(...xs), Math.max(...xs), MARGIN.left, WIDTH - MARGIN.right);
  const y = (value) => scale(value, 0, highest, HEIGHT - MARGIN.bottom, MARGIN.top);
  const ticks = [0, highest / 2, highest];
  svg.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
  svg.replaceChildren(
    ...ticks.flatMap((value) => [
      node("line", { class: "grid", x1: x(xs[0]), x2: WIDTH - MARGIN.right, y1: y(value), y2: y(value) }),
      node("text", { x: MARGIN.left - 6, y: y(value) + 4, "text-anchor": "end" }, value.toFixed(3)),
    ]),
    ...[xs[0], xs[xs.length - 1]].map((value) => {
      return node("text", { x: x(value), y: HEIGHT - MARGIN.bottom + 16, "text-anchor": "middle" }, String(value));
    }),
    node("text", { x: (MARGIN.left + WIDTH - MARGIN.right) / 2, y: HEIGHT - 6, "text-anchor": "middle" }, xName),
    node("text", { x: WIDTH - MARGIN.right, y: MARGIN.top + 16, "text-anchor": "end", class: "name" }, yName),
    ...marks.flatMap((mark) => [
      node("line", { class: "mark", x1: x(mark.x), x2: x(mark.x), y1: MARGIN.top, y2: HEIGHT - MARGIN.bottom }),
      node("text", { x: x(mark.x), y: HEIGHT - MARGIN.bottom + 16, "text-anchor": "middle" }, mark.text),
    ]),
    node("polyline", { class: "line", points: points.map((point) => `${x(point.x)},${y(point.y)}`).join(" ") }),
    node("circle", { class: "now", cx: x(now.x), cy: y(now.y), r: 5 }),
  );
}

function scale(value, low, high, from, to) {
  return from + ((value - low) / (high - low || 1)) * (to - from);
}

function node(name, attributes, text = "") {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.textContent = text;
  return made;
}
