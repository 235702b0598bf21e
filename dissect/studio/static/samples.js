// Samples that show a concept.

import { get } from "./api.js";
import { notice } from "./dom.js";

const MOST_TRIED = 40;
const SHOWS = 0.015; // the share of an image's pixels from which it does

/** The next sample in which class `at` takes up enough of its pixels; null where none is near. */
export async function nextThatShows({ model, seed, index }, { at, name, pixels }) {
  try {
    for (let next = index + 1; next <= index + MOST_TRIED; next += 1) {
      const { counts } = await get("before", { model, seed, index: next });
      if ((counts[at] ?? 0) >= SHOWS * pixels) return { seed, index: next };
    }
    notice(`None of the next ${MOST_TRIED} samples shows a ${name}.`, { good: true });
  } catch (error) {
    notice(error.message, { id: "next" });
  }
  return null;
}
