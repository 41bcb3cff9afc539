// The tab "Live": the newest image of a running node, the objects that it watches, questions to it.

import { get, imageAddress, post } from "./api.js";
import { byId } from "./dom.js";
import { objectTable, showAnswer } from "./results.js";

const PERIOD_MS = 300;
const OLD_S = 3;

export function setUpLive(attempt) {
  let stamp = "", paused = false;

  async function look() {
    const frame = await get("api/live");
    const old = frame.stamp && frame.age_s > OLD_S ? `The newest image is ${frame.age_s.toFixed(0)} s old. ` : "";
    byId("live-note").textContent = old + (frame.problem || frame.model || "");
    if (!frame.stamp || frame.stamp === stamp) return;
    stamp = frame.stamp;
    byId("live-objects").replaceChildren(objectTable(frame.objects));
    if (!frame.has_image) return;
    const before = byId("live-image").src;
    byId("live-image").src = await imageAddress("api/live/image.jpg");
    byId("live-image").hidden = false;
    if (before.startsWith("blob:")) URL.revokeObjectURL(before);
  }

  async function keepLooking() {
    if (!paused && !byId("live").hidden && !document.hidden) {
      await look().catch((error) => { byId("live-note").textContent = error.message; });
    }
    setTimeout(keepLooking, PERIOD_MS);
  }

  byId("live-pause").addEventListener("click", () => {
    paused = !paused;
    byId("live-pause").setAttribute("aria-pressed", String(paused));
    byId("live-pause").textContent = paused ? "Go on" : "Pause";
  });
  byId("live-ask").addEventListener("submit", (event) => {
    event.preventDefault();
    byId("live-busy").textContent = "Asking the node …";
    byId("live-answer").replaceChildren();
    attempt(async () => showAnswer(byId("live-answer"), await post("api/live/ask", { question: byId("live-question").value })))
      .finally(() => { byId("live-busy").textContent = ""; });
  });
  keepLooking();
}
