// The tab "A photo": an image of one's own, things in it, questions about it.

import { getFile, post, sendImage } from "./api.js";
import { byId } from "./dom.js";
import { showAnswer } from "./results.js";
import { Stage } from "./stage.js";

const EXAMPLE = { names: ["vase", "woman", "chair"], question: "Which is closer, the vase or the woman?" };

export function setUpPhoto(attempt) {
  const stage = new Stage(byId("photo-stage"), byId("photo-objects"), () => byId("photo-answer").replaceChildren());
  let file = null, key = "";

  async function open(chosen) {
    if (!chosen) return;
    byId("photo-busy").textContent = "Looking at it …";
    const sent = await sendImage(chosen).catch((error) => {
      error.message = error.message.replace(/^the image:/, `${chosen.name || "the photo"}:`);
      throw error;
    });
    file = chosen;
    key = sent.image;
    byId("photo-drop").hidden = true;
    for (const id of ["photo-stage", "photo-help", "photo-other"]) byId(id).hidden = false;
    byId("photo-answer").replaceChildren();
    await stage.show(URL.createObjectURL(chosen), chosen.name || "the photo");
    byId("photo-question").focus();
  }

  async function openExample() {
    await open(await getFile("api/example.jpg"));
    EXAMPLE.names.forEach((name) => stage.add(name, null));
    byId("photo-question").value = EXAMPLE.question;
  }

  async function ask(question) {
    if (!file) throw new Error("there is no photo yet; drop one, or choose a file");
    addNames();
    const objects = stage.objects.filter((o) => o.name.trim() || o.box);
    if (objects.some((o) => !o.name.trim())) {
      stage.focusName(objects.find((o) => !o.name.trim()));
      throw new Error("a box has no name yet; say what is in it");
    }
    if (!question && !objects.length) throw new Error("nothing is asked; write a question, or name things in the image");
    byId("photo-busy").textContent = "Looking …";
    byId("photo-answer").replaceChildren();
    const answer = await answered({ image: key, question, objects });
    stage.setResults(answer.objects);
    showAnswer(byId("photo-answer"), answer);
  }

  async function answered(body) {
    try {
      return await post("api/ask", body);
    } catch (error) {
      if (error.code !== "image_not_found") throw error;
      key = (await sendImage(file)).image; // it was forgotten meanwhile
      return post("api/ask", { ...body, image: key });
    }
  }

  function addNames() {
    const names = byId("photo-name").value.split(",").map((n) => n.trim()).filter(Boolean);
    byId("photo-name").value = "";
    names.filter((n) => !stage.objects.some((o) => o.name === n)).forEach((n) => stage.add(n, null));
  }

  const busy = (work) => attempt(work).finally(() => { byId("photo-busy").textContent = ""; });
  byId("photo-file").addEventListener("change", (event) => busy(() => open(event.target.files[0])));
  byId("photo-example").addEventListener("click", () => busy(openExample));
  byId("photo-ask").addEventListener("submit", (event) => {
    event.preventDefault();
    const question = byId("photo-question").value.trim();
    busy(() => {
      if (!question) throw new Error("the question is empty; write one, or press “How far are they?”");
      return ask(question);
    });
  });
  byId("photo-add").addEventListener("submit", (event) => { event.preventDefault(); addNames(); });
  byId("photo-depths").addEventListener("click", () => busy(() => ask("")));
  byId("photo-box").addEventListener("click", () => attempt(() => {
    if (!file) throw new Error("there is no photo yet; drop one, or choose a file");
    stage.focusName(stage.addInTheMiddle(""));
  }));
  acceptDrops(byId("photo"), (dropped) => busy(() => open(dropped)));
}

function acceptDrops(panel, take) {
  const over = (on) => panel.querySelectorAll(".drop, .stage").forEach((e) => e.classList.toggle("over", on));
  panel.addEventListener("dragover", (event) => { event.preventDefault(); over(true); });
  panel.addEventListener("dragleave", () => over(false));
  panel.addEventListener("drop", (event) => { event.preventDefault(); over(false); take(event.dataTransfer.files[0]); });
  document.addEventListener("paste", (event) => { if (!panel.hidden && event.clipboardData.files.length) take(event.clipboardData.files[0]); });
}
