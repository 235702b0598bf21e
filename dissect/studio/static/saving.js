// What is kept of an edit: the edit itself, its picture, the edited generator.

import { post } from "./api.js";
import { $, notice } from "./dom.js";
import { gated } from "./edit.js";

const NAMES = { edit: "the edit", picture: "the picture", checkpoint: "the edited generator" };

/** How an edit is written into a generator, for whoever is about to save it. */
export function bakedAs(edit) {
  const { where, strength } = edit;
  if (where === "brush") return "The brushed cells are edited in every sample that the file draws";
  if (gated(edit)) return "With the probe inside: every sample is edited where it sees the concept";
  return strength === 1 ? "The units become 0 in the weights" : "With the edit as a part of its own";
}

function written({ how, difference }) {
  if (!how) return "";
  const place = how === "weights" ? "in the weights" : "as a small module at the end of the layer";
  const same = difference === 0 ? "bit for bit" : `within ${difference.toExponential(0)}`;
  return `, the edit ${place}. Read back, it draws this sample ${same}`;
}

/** The buttons that save; `body()` is the edit and the sample. */
export function makeSaving(body) {
  for (const what of Object.keys(NAMES)) {
    const button = $(`save-${what}`);
    button.addEventListener("click", async () => {
      button.disabled = true;
      try {
        const answer = await post("save", { ...body(), what });
        notice(`Saved ${NAMES[what]} in ${answer.file}${written(answer)}.`, { good: true, id: "save" });
      } catch (error) {
        notice(error.message, { id: "save" });
      }
      button.disabled = false;
    });
  }
}
