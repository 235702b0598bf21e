// What an edit did to the sample, in figures.

import { post } from "./api.js";
import { $, element, notice, text } from "./dom.js";

/**
 * Show the share of a concept's pixels that is gone, beside the control's, and the mean change.
 * `at` is the concept's number among the segmenter's classes, or -1 where there is none.
 */
export function showMetrics({ before, after, control, at, concept }) {
  const metrics = [];
  const figure = (value, meaning) => {
    const number = element("b", { textContent: value });
    metrics.push(element("span", { className: "figure" }, number, text("quiet", meaning)));
  };
  if (at >= 0) {
    const first = before.counts[at] ?? 0;
    const left = after.counts[at] ?? 0;
    const share = (rest) => (first ? percent(1 - rest / first) : "none here");
    figure(share(left), `of the ${concept} removed`);
    figure(`${first} → ${left}`, `${concept} pixels`);
    if (control) figure(share(control.counts[at] ?? 0), "removed by random units");
  }
  const sum = before.pixels.reduce((total, value, place) => total + Math.abs(value - after.pixels[place]), 0);
  figure((sum / before.pixels.length).toFixed(1), "mean change, of 255");
  $("metrics").replaceChildren(...metrics);
}

const percent = (share) => `${Math.round(share * 100)}%`.replace("-", "−");
const range = ([low, high]) => `${percent(low)} to ${percent(high)}`;

/** The button that measures an edit on fresh samples; `body()` is the edit, `concept()` its name. */
export function makeMeasure(body, concept) {
  $("measure").addEventListener("click", async () => {
    $("measure").disabled = true;
    $("measured").textContent = "measuring…";
    try {
      const found = await post("measure", body());
      const ours = `${percent(found.removed)} of the ${concept()} removed (95%: ${range(found.removed_ci)})`;
      const others = `${percent(found.random)} (${range(found.random_ci)})`;
      $("measured").textContent = `On ${found.n} fresh samples ${ours}; by random units ${others}.`;
    } catch (error) {
      $("measured").textContent = "";
      notice(error.message, { id: "measure" });
    }
    $("measure").disabled = false;
  });
}

/** A measurement is of one edit: another one takes it away. */
export function forgetMeasure(offered) {
  $("measure-field").hidden = !offered;
  $("measured").textContent = "";
}
