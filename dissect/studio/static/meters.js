// What an edit did to the sample, in figures.

import { $, element } from "./dom.js";

/**
 * Show the share of a concept's pixels that is gone, beside the control's, and the mean change.
 * `at` is the concept's number among the segmenter's classes, or -1 where there is none.
 */
export function showMeters({ before, after, control, at, concept }) {
  const meters = [];
  const figure = (value, meaning) => meters.push(
    element("span", { className: "figure" }, element("b", { textContent: value }), element("span", { className: "quiet", textContent: meaning })));
  if (at >= 0) {
    const first = before.counts[at] ?? 0;
    const left = after.counts[at] ?? 0;
    const share = (rest) => (first ? `${Math.round((1 - rest / first) * 100)}%`.replace("-", "−") : "none here");
    figure(share(left), `of the ${concept} removed`);
    figure(`${first} → ${left}`, `${concept} pixels`);
    if (control) figure(share(control.counts[at] ?? 0), "removed by random units");
  }
  const sum = before.pixels.reduce((total, value, place) => total + Math.abs(value - after.pixels[place]), 0);
  figure((sum / before.pixels.length).toFixed(1), "mean change, of 255");
  $("meters").replaceChildren(...meters);
}
