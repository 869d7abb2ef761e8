"use strict";
const at = (id) => document.getElementById(id);
const faults = new Map();
const names = JSON.parse(document.documentElement.dataset.names || "{}");
let stagesShown = 0;

function showStages(stages) {
  const rows = Object.entries(stages).map(([stage, ms]) => {
    const row = document.createElement("tr");
    const name = row.insertCell();
    const value = row.insertCell();
    name.textContent = stage;
    value.textContent = ms.toFixed(1);
    value.className = "number";
    return row;
  });
  at("stages").replaceChildren(...rows);
}

function showFrame(event) {
  const who = names[event.person] || event.person || "";
  at("decision").textContent = `${event.outcome} ${who} ${event.reasons.join("; ")}`;
  if (performance.now() - stagesShown > 250) {
    stagesShown = performance.now();
    showStages(event.stages_ms);
  }
}

function showBolt(open) {
  at("bolt").textContent = open ? "UNLOCKED" : "LOCKED";
  at("bolt").className = open ? "open" : "";
}

function showCounted(event) {
  at("counted").hidden = false;
  at("counted").querySelector("img").src = `/counted.jpg?at=${event.at}`;
  at("counted").querySelector("figcaption").textContent = `${event.outcome}: ${event.reasons.join("; ")}`;
}

function list(event) {
  const item = document.createElement("li");
  const words = event.reasons ? event.reasons.join("; ") : event.text || event.reason || event.says || "";
  const who = names[event.person] || event.person || event.source || "";
  item.textContent = `${new Date(event.at * 1000).toLocaleTimeString()} ${event.event} ${who} ${words}`;
  at("events").prepend(item);
  while (at("events").children.length > 30) at("events").lastChild.remove();
}

const stream = new EventSource("/events");
stream.onmessage = (message) => {
  const event = JSON.parse(message.data);
  if (event.event === "frame") {
    showFrame(event);
    if (event.outcome === "wait") return;
  }
  if (event.event === "unlock") showBolt(true);
  if (event.event === "locked") showBolt(false);
  if (event.event === "fault") faults.set(event.source, event.reason);
  if (event.event === "fault ended") faults.delete(event.source);
  at("faults").textContent = [...faults.values()].join("; ");
  if (event.event === "counted" && event.regions) showCounted(event);
  if (event.event === "enrolment") at("enrolment").textContent = event.text;
  list(event);
};
stream.onerror = () => {
  at("decision").textContent = "the page has lost the lock";
};
