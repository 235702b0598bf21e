// What the server measures of every unit in the background: how far it is, and what it found.

import { post } from "./api.js";
import { $, notice } from "./dom.js";

export const RANKINGS = ["iou", "effect"];
const EVERY = 400; // milliseconds between questions

const WORDS = {
  iou: ["IoU", "IoU of where the unit is on with the segmenter’s mask"],
  effect: ["effect", "Share of the concept’s pixels that the unit alone takes away"],
};

/** What to call a way of sorting. */
export function sortName(by) {
  return { weight: "probe weight", iou: "IoU with the mask", effect: "its own effect", unit: "number" }[by] ?? by;
}

/**
 * Asks for one ranking at a time until it is finished. `context()` names the units; `arrived(by,
 * values)` is told of scores, and of better ones.
 */
export function makeRanking(context, arrived) {
  let asked = 0; // which question is the last; earlier ones are dropped

  function tell(by, { done, total, finished, samples }) {
    const [name, meaning] = WORDS[by];
    $("ranking").hidden = false;
    $("ranked").hidden = finished;
    $("ranked").max = Math.max(total, 1);
    if (total) $("ranked").value = done;
    else $("ranked").removeAttribute("value");
    const percent = total ? ` ${Math.floor((100 * done) / total)}%` : "…";
    const found = `${meaning}, on ${samples} samples.`;
    $("ranking-text").textContent = finished ? found
      : samples ? `${found} Going on:${percent}` : `Measuring the ${name} of every unit:${percent}`;
  }

  async function follow(by) {
    const mine = (asked += 1);
    let known = 0;
    tell(by, { done: 0, total: 0, finished: false, samples: 0 });
    while (mine === asked) {
      let answer;
      try {
        answer = await post("ranking", { ...context(), by, known });
      } catch (error) {
        if (mine === asked) {
          stop();
          notice(error.message, { id: "ranking" });
        }
        return;
      }
      if (mine !== asked) return;
      tell(by, answer);
      if (answer.values) {
        known = answer.samples;
        arrived(by, answer.values);
      }
      if (answer.finished) return;
      await new Promise((resolve) => { setTimeout(resolve, EVERY); });
    }
  }

  function stop() {
    asked += 1;
    $("ranking").hidden = true;
  }

  return { follow, stop };
}
