// The page: images in, by whatever way, answers shown. No library, nothing from another origin.
"use strict";

const $ = (id) => document.getElementById(id);
const CHUNK = 16; // images in one request of the gallery
const MAX_GALLERY = 2000;
const DEBOUNCE_MS = 120;

const models = new Map(); // name -> what /v1/models says
let language = "en";
let current = null; // the blob being shown
let shown = null; // its prediction
let asked = 0; // so that a late answer never replaces a newer one
let timer = 0;

const word = (key) => WORDS[language][key];
const percent = (value) => `${(100 * value).toLocaleString(language, { maximumFractionDigits: 1 })} %`;

function element(tag, text, className) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

function model() {
  return models.get($("model").value);
}

function labelOf(index) {
  const labels = model()?.labels;
  return (labels?.[language] ?? labels?.en ?? [])[index] ?? String(index);
}

async function classify(blobs, seen) {
  const form = new FormData();
  blobs.forEach((blob, index) => form.append("file", blob, `image-${index}`));
  const query = seen ? "?seen=1" : "";
  const answer = await fetch(`/v1/classify/${$("model").value}${query}`, { method: "POST", body: form });
  const record = await answer.json();
  if (!record.predictions) throw new Error(record.detail ?? answer.statusText);
  return record;
}

async function show(blob) {
  current = blob;
  const ticket = ++asked;
  const began = performance.now();
  try {
    const record = await classify([blob], true);
    if (ticket !== asked) return;
    const prediction = record.predictions[0];
    if (prediction.error) throw new Error(prediction.error.detail);
    shown = prediction;
    render(record, performance.now() - began);
  } catch (error) {
    if (ticket === asked) fail(error instanceof TypeError ? word("unreachable") : error.message);
  }
}

function render(record, milliseconds) {
  const prediction = shown;
  $("label").textContent = labelOf(prediction.index);
  const several = prediction.preprocessing?.several;
  $("decision").className = `decision ${prediction.decision}`;
  $("decision").textContent = word(several ? "several" : prediction.decision);
  $("top").replaceChildren(...prediction.top.map((entry) => {
    const row = element("li");
    const name = element("div", undefined, "name");
    name.append(element("span", labelOf(entry.index)), element("span", percent(entry.probability)));
    const track = element("div", undefined, "track");
    const fill = element("div", undefined, "fill");
    fill.style.width = `${100 * entry.probability}%`;
    track.append(fill);
    row.append(name, track);
    return row;
  }));
  $("seen").src = $("seen-link").href = prediction.seen;
  $("seen").alt = word("seen");
  $("seen").hidden = false;
  const facts = [
    ["confidence", percent(prediction.confidence)],
    ["latency", `${milliseconds.toFixed(1)} ms`],
    ["polarity", prediction.preprocessing?.polarity],
    ["version", `${record.model} ${record.version}`],
  ];
  $("facts").replaceChildren(...facts.filter(([, value]) => value).flatMap(
    ([key, value]) => [element("dt", word(key)), element("dd", value)],
  ));
  $("feedback").hidden = false;
  $("thanks").textContent = "";
}

function fail(message) {
  shown = null;
  $("label").textContent = "–";
  $("decision").className = "decision error";
  $("decision").textContent = message;
  $("top").replaceChildren();
  $("facts").replaceChildren();
  $("seen").hidden = $("feedback").hidden = true;
}

function reset() {
  asked++;
  current = null;
  pad.clear();
  $("preview").hidden = true;
  $("hint").hidden = false;
  fail("");
}

async function take(files) {
  const images = files.filter((file) => file.type.startsWith("image/") || /\.(png|jpe?g|webp|bmp|gif|tiff?)$/i.test(file.name));
  if (images.length === 1) {
    if ($("preview").src) URL.revokeObjectURL($("preview").src);
    $("preview").src = URL.createObjectURL(images[0]);
    $("preview").hidden = false;
    $("hint").hidden = true;
    await show(images[0]);
  } else if (images.length) {
    await showMany(images.slice(0, MAX_GALLERY));
  }
}

async function showMany(images) {
  $("gallery-panel").hidden = false;
  $("gallery").replaceChildren();
  let done = 0;
  let failed = 0;
  for (let at = 0; at < images.length; at += CHUNK) {
    const chunk = images.slice(at, at + CHUNK);
    let predictions;
    try {
      predictions = (await classify(chunk, false)).predictions;
    } catch (error) {
      predictions = chunk.map(() => ({ error: { detail: error.message } }));
    }
    predictions.forEach((prediction, index) => {
      failed += prediction.error ? 1 : 0;
      $("gallery").append(card(chunk[index], prediction));
    });
    done += chunk.length;
    $("gallery-status").textContent =
      `${done} ${word("of")} ${images.length}${failed ? `, ${failed} ${word("failed")}` : ""}`;
  }
}

function card(file, prediction) {
  const made = element("li");
  const image = element("img");
  image.alt = "";
  image.loading = "lazy";
  image.onload = () => URL.revokeObjectURL(image.src);
  image.src = URL.createObjectURL(file);
  made.append(image);
  if (prediction.error) {
    made.append(element("span", prediction.error.detail, "error"));
  } else {
    made.append(
      element("b", labelOf(prediction.index), prediction.decision),
      element("span", percent(prediction.confidence)),
    );
  }
  made.append(element("div", file.webkitRelativePath || file.name));
  return made;
}

// A dropped folder, read to its end: readEntries gives at most a hundred at a time.
async function filesOf(entry) {
  if (entry.isFile) return [await new Promise((yes, no) => entry.file(yes, no))];
  const reader = entry.createReader();
  const found = [];
  for (;;) {
    const some = await new Promise((yes, no) => reader.readEntries(yes, no));
    if (!some.length || found.length >= MAX_GALLERY) return found;
    for (const inner of some) found.push(...await filesOf(inner));
  }
}

async function sendFeedback(index) {
  if (!shown) return;
  const answer = await fetch("/v1/feedback", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ id: shown.id, label: model().labels.en[index] }),
  });
  const record = await answer.json().catch(() => ({}));
  const said = answer.ok ? word("thanks") : answer.status === 409 ? word("already") : record.detail;
  $("thanks").textContent = said ?? word("unreachable");
  await showAccuracy();
}

async function showAccuracy() {
  const panel = $("accuracy");
  const answer = await fetch(`/v1/models/${$("model").value}/accuracy`);
  if (!answer.ok) return panel.replaceChildren(element("p", (await answer.json()).detail));
  const record = await answer.json();
  const table = element("table");
  const head = element("tr");
  for (const key of ["source", "window", "correct", "rate", "interval"]) head.append(element("th", word(key)));
  table.append(head);
  const labelled = Object.entries(record.sources).filter(([, windows]) => windows.all.labelled > 0);
  for (const [source, windows] of labelled) {
    for (const [key, entry] of Object.entries(windows)) {
      const row = element("tr");
      const known = entry.labelled > 0;
      row.append(
        element("td", word(source)), element("td", word(key)),
        element("td", `${entry.correct} / ${entry.labelled}`),
        element("td", known ? percent(entry.accuracy) : "–"),
        element("td", known ? entry.interval.map(percent).join(" – ") : "–"),
      );
      table.append(row);
    }
  }
  const byClass = labelled.map(([source, windows]) => classTable(source, windows.all.classes));
  const tested = model().accuracy;
  const frame = element("div", undefined, "scroll");
  frame.append(table);
  panel.replaceChildren(labelled.length ? frame : element("p", word("noLabels")), ...byClass);
  if (tested) panel.append(element("p", `${word("tested")}: ${percent(tested)}`));
}

// One source's labels of all time, class by class; folded away until it is asked for.
function classTable(source, classes) {
  const table = element("table");
  const head = element("tr");
  for (const key of ["class", "labelled", "correct", "recall", "precision"]) head.append(element("th", word(key)));
  table.append(head);
  classes.forEach((entry, index) => {
    const row = element("tr");
    const share = (value) => element("td", value === null ? "–" : percent(value));
    row.append(
      element("td", labelOf(index)), element("td", entry.labelled), element("td", entry.correct),
      share(entry.recall), share(entry.precision),
    );
    table.append(row);
  });
  const frame = element("div", undefined, "scroll");
  frame.append(table);
  const folded = element("details");
  folded.append(element("summary", `${word("byClass")} (${word(source)})`), frame);
  return folded;
}

function speak() {
  document.documentElement.lang = language;
  for (const made of document.querySelectorAll("[data-word]")) made.textContent = word(made.dataset.word);
  $("pad").setAttribute("aria-label", word("padLabel"));
  const labels = model()?.labels;
  $("truth").replaceChildren(...(labels?.en ?? []).map((_, index) => new Option(labelOf(index), index)));
}

async function changeModel() {
  speak();
  await showAccuracy();
  if (current) await show(current);
}

async function start() {
  language = navigator.language.startsWith("pt") ? "pt" : "en";
  $("language").value = language;
  const answer = await fetch("/v1/models");
  const record = await answer.json();
  for (const entry of record.models.filter((each) => each.labels && !each.failure)) {
    models.set(entry.name, entry);
    const tasks = entry.tasks.length ? ` (${entry.tasks.join(", ")})` : "";
    $("model").add(new Option(entry.name + tasks, entry.name));
  }
  const first = [...models.values()].find((entry) => entry.tasks.includes("digits"));
  if (first) $("model").value = first.name;
  await changeModel();
}

const pad = new Pad($("pad"), () => {
  $("hint").hidden = true;
  clearTimeout(timer);
  timer = setTimeout(async () => show(await pad.png()), DEBOUNCE_MS);
});
$("clear").addEventListener("click", reset);
$("model").addEventListener("change", changeModel);
$("language").addEventListener("change", () => {
  language = $("language").value;
  speak();
  showAccuracy();
  if (current) show(current);
});
for (const id of ["files", "folder", "camera"]) {
  $(id).addEventListener("change", async () => {
    await take([...$(id).files]);
    $(id).value = "";
  });
}
$("right").addEventListener("click", () => sendFeedback(shown.index));
$("feedback").addEventListener("submit", (event) => {
  event.preventDefault();
  sendFeedback(Number($("truth").value));
});
addEventListener("paste", (event) => take([...event.clipboardData.files]));
addEventListener("dragover", (event) => { event.preventDefault(); $("drop").classList.add("over"); });
addEventListener("dragleave", () => $("drop").classList.remove("over"));
addEventListener("drop", async (event) => {
  event.preventDefault();
  $("drop").classList.remove("over");
  const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  const files = entries.length
    ? (await Promise.all(entries.map(filesOf))).flat()
    : [...event.dataTransfer.files];
  await take(files);
});
start();
