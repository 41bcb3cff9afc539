// An answer for people: its sentence, how sure it is, and a bar of depth for every object.

import { colourOf } from "./colours.js";
import { element, shape } from "./dom.js";

const percent = (value) => `${Math.round(100 * value)} %`;

export function showAnswer(place, answer) {
  place.replaceChildren(element("p", { class: "said" }, answer.answer));
  if (answer.probability !== null && answer.closer) place.append(sureness(answer));
  if (answer.objects.length) place.append(objectTable(answer.objects));
}

function sureness(answer) {
  const text = `the ${answer.closer} is closer: ${percent(answer.probability)} sure`;
  return element("p", { class: "sure" },
    element("meter", { min: 0, max: 1, value: answer.probability, "aria-label": text }), text);
}

export function objectTable(objects) {
  const head = element("tr", {}, ...["thing", "depth", "", "seen"].map((t) => element("th", { scope: "col" }, t)));
  head.children[1].replaceChildren(
    element("div", { class: "scale" }, element("span", {}, "near 0"), element("span", {}, "depth"), element("span", {}, "1 far")));
  const rows = objects.map((o) => element("tr", {}, element("th", { scope: "row" }, o.name), ...(o.seen ? known(o) : unknown()),
    element("td", { class: "number" }, percent(o.score), ...(o.name_doubted ? [element("div", { class: "quiet" }, "name doubted")] : []))));
  return element("table", {}, element("thead", {}, head), element("tbody", {}, ...rows));
}

function known(o) {
  const depth = `${o.depth.toFixed(2)} ± ${o.depth_stddev.toFixed(2)}`;
  const metres = o.distance === null ? [] : [`${o.distance.toFixed(2)} ± ${(o.distance_stddev ?? 0).toFixed(2)} m`];
  const lines = [depth, ...metres].map((text) => element("div", {}, text));
  return [element("td", { class: "depth" }, depthBar(o, [depth, ...metres].join(", "))), element("td", { class: "number" }, ...lines)];
}

function unknown() {
  return [element("td", { class: "depth quiet" }, "not seen"), element("td", {}, "")];
}

// A bar from 0 to the depth, in its colour, with a whisker of one standard deviation.
function depthBar(o, text) {
  const at = (v) => 100 * Math.min(1, Math.max(0, v));
  const low = at(o.depth - o.depth_stddev), high = at(o.depth + o.depth_stddev);
  return shape("svg", { viewBox: "0 0 100 22", preserveAspectRatio: "none", role: "img", "aria-label": `${o.name}: ${text}` },
    shape("rect", { x: 0, y: 3, width: 100, height: 16, fill: "none", stroke: "currentColor", "stroke-opacity": 0.35, "vector-effect": "non-scaling-stroke" }),
    shape("rect", { x: 0, y: 3, width: at(o.depth), height: 16, fill: colourOf(o.depth) }),
    shape("rect", { x: low, y: 9, width: Math.max(0.5, high - low), height: 4, class: "whisker" }),
    shape("rect", { x: at(o.depth) - 0.4, y: 1, width: 0.8, height: 20, class: "whisker" }));
}
