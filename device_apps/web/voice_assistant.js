"use strict";
const at = (id) => document.getElementById(id);
const faults = new Map();
const SECONDS = 20;
const PER_SECOND = 50;
const peaks = new Array(SECONDS * PER_SECOND).fill(0);
const scores = new Array(SECONDS * 10).fill(0);
const spoken = new Array(SECONDS * 10).fill(false);
let muted = document.documentElement.dataset.muted === "yes";

function draw() {
  const canvas = at("wave");
  const pen = canvas.getContext("2d");
  const { width, height } = canvas;
  const style = getComputedStyle(document.body);
  pen.clearRect(0, 0, width, height);
  pen.fillStyle = "#8883";
  spoken.forEach((on, i) => {
    if (on) pen.fillRect((i * width) / spoken.length, 0, width / spoken.length + 1, height);
  });
  pen.strokeStyle = style.color;
  pen.beginPath();
  peaks.forEach((peak, i) => {
    const x = (i * width) / peaks.length;
    const tall = Math.max(0.5, Math.sqrt(peak) * height * 0.48);
    pen.moveTo(x, height / 2 - tall);
    pen.lineTo(x, height / 2 + tall);
  });
  pen.stroke();
  pen.strokeStyle = "#b3261e";
  pen.lineWidth = 2;
  pen.beginPath();
  scores.forEach((score, i) => {
    const x = (i * width) / scores.length;
    const y = height - 2 - score * (height - 4);
    if (i) pen.lineTo(x, y);
    else pen.moveTo(x, y);
  });
  pen.stroke();
  pen.lineWidth = 1;
}

function showLevel(event) {
  peaks.push(...event.peaks);
  peaks.splice(0, event.peaks.length);
  scores.push(event.score);
  scores.shift();
  spoken.push(event.speech);
  spoken.shift();
  const words = Object.entries(event.scores).map(([word, score]) => `${word} ${score.toFixed(2)}`);
  const work = Object.entries(event.rtf).map(([stage, factor]) => `${stage} ${(factor * 100).toFixed(1)} %`);
  at("numbers").textContent = `${event.rms_db.toFixed(0)} dBFS  ${words.join("  ")}  of a core: ${work.join("  ")}`;
  if (!muted) at("mode").textContent = event.hearing ? "LISTENING" : event.speech ? "speech" : "waiting";
  at("mode").className = event.hearing ? "mode open" : "mode";
  draw();
}

function showStages(event) {
  const all = { ...event.stages_ms, "silence before the end": event.silence_ms, "after the hang-over": event.after_hangover_ms };
  const rows = Object.entries(all).map(([stage, ms]) => {
    const row = document.createElement("tr");
    row.insertCell().textContent = stage;
    const value = row.insertCell();
    value.textContent = ms.toFixed(1);
    value.className = "number";
    return row;
  });
  at("stages").replaceChildren(...rows);
}

function showIntent(event) {
  const slots = Object.entries(event.slots).map(([name, value]) => `${name} = ${value}`);
  at("intent").textContent = event.intent ? `${event.intent} ${slots.join(", ")}` : `I don't know: ${event.why}`;
  at("reply").textContent = event.reply;
  showStages(event);
}

function list(event) {
  const item = document.createElement("li");
  const words = event.text || event.reason || event.why || event.word || (event.warnings || []).join("; ");
  item.textContent = `${new Date(event.at * 1000).toLocaleTimeString()} ${event.event} ${event.intent || ""} ${words || ""}`;
  at("events").prepend(item);
  while (at("events").children.length > 30) at("events").lastChild.remove();
}

const stream = new EventSource("/events");
stream.onmessage = (message) => {
  const event = JSON.parse(message.data);
  if (event.event === "level") return showLevel(event);
  if (event.event === "heard") at("transcript").textContent = event.text || "nothing";
  if (event.event === "intent") showIntent(event);
  if (event.event === "muted" || event.event === "unmuted") {
    muted = event.event === "muted";
    at("mode").textContent = muted ? "MUTED" : "waiting";
    at("mode").className = "mode";
  }
  if (event.event === "fault") faults.set(event.source, event.reason);
  if (event.event === "fault ended") faults.delete(event.source);
  at("faults").textContent = [...faults.values()].join("; ");
  if (event.event === "meter") return;
  list(event);
};
stream.onerror = () => {
  at("numbers").textContent = "the page has lost the assistant";
};
draw();
