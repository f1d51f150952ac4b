"use strict";

// Ten points of matplotlib's viridis, as in the style sheet.
const VIRIDIS = ["440154", "482878", "3e4989", "31688e", "26828e", "1f9e89", "35b779", "6ece58",
  "b5de2b", "fde725"].map((hex) => [0, 2, 4].map((at) => parseInt(hex.slice(at, at + 2), 16)));
const SPOT = 0.014; // smallest radius of the agent's spot, of the ground's longer side
const LONGEST_GLIDE = 150; // ms between two frames that are drawn as one movement

const byId = (id) => document.getElementById(id);
const still = matchMedia("(prefers-reduced-motion: reduce)");
let scene, panels, shown, before, arrived, glide = 0, mapGoal = null, events = null, note = "";
let settled = false; // whether what is drawn is the newest frame

async function ask(path, body) {
  const post = body && { method: "POST", body: JSON.stringify(body) };
  const answer = await fetch(path, post || {});
  const value = await answer.json();
  if (!answer.ok) throw new Error(value.error);
  return value;
}

function element(parent, name, attributes) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  set(made, attributes);
  return parent.appendChild(made);
}

function set(node, attributes) {
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
}

const points = (places) => places.map((place) => place.join(",")).join(" ");
const seconds = (value) => `${value.toFixed(1)} s`;
const length = (value) => `${value.toFixed(value < 10 ? 2 : 1)} ${scene.unit}`;
const milliseconds = (value) => `${value.toPrecision(3)} ms`;
const mix = (from, to, share) => from.map((value, index) => value + share * (to[index] - value));

function build() {
  document.title = `${scene.task} – Kilolayer`;
  byId("title").textContent = `Kilolayer: ${scene.task}`;
  byId("players").classList.toggle("alone", scene.players.length === 1);
  byId("map-choice").hidden = !scene.map;
  byId("restart").checked = scene.players.length > 1;
  byId("sayings").hidden = byId("mark-legend").hidden = !scene.listens;
  panels = scene.players.map(buildPanel);
}

function buildPanel(player) {
  const root = byId("player").content.cloneNode(true).firstElementChild;
  const find = (name) => root.querySelector(`.${name}`);
  const [x0, y0, x1, y1] = scene.bounds;
  const panel = { root, find, trail: [], cursor: null };
  find("name").textContent = player.name;
  find("about").textContent = player.about;
  const svg = find("ground");
  svg.setAttribute("viewBox", `${x0} ${-y1} ${x1 - x0} ${y1 - y0}`);
  svg.setAttribute("aria-label", `Ground of the ${player.name}: arrow keys move a cross, Enter ` +
    "sends the agent there.");
  find("plane").setAttribute("transform", "scale(1 -1)"); // y points up
  for (const [x, y, width, height] of scene.walls)
    element(find("walls"), "rect", { x, y, width, height });
  set(find("values"), { x: x0, y: y0, width: x1 - x0, height: y1 - y0 });
  svg.addEventListener("click", (event) => {
    const inverse = find("plane").getScreenCTM().inverse();
    const place = new DOMPoint(event.clientX, event.clientY).matrixTransform(inverse);
    send([place.x, place.y]);
  });
  svg.addEventListener("keydown", (event) => pressed(panel, event));
  byId("players").appendChild(root);
  return panel;
}

function pressed(panel, event) {
  const [x0, y0, x1, y1] = scene.bounds;
  const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
  panel.cursor ??= shown.goal ?? shown.lanes[0].place;
  if (event.key === "Enter" || event.key === " ") send(panel.cursor);
  else if (event.key in moves) {
    const step = Math.max(x1 - x0, y1 - y0) / (event.shiftKey ? 160 : 40);
    const [dx, dy] = moves[event.key];
    const [x, y] = panel.cursor;
    panel.cursor = [Math.min(x1, Math.max(x0, x + dx * step)),
      Math.min(y1, Math.max(y0, y + dy * step))];
    fillGoal(panel.cursor);
    const size = Math.max(x1 - x0, y1 - y0) / 50;
    const [cx, cy] = panel.cursor;
    panel.find("cursor").setAttribute("d",
      `M${cx - size} ${cy}H${cx + size}M${cx} ${cy - size}V${cy + size}`);
  } else return;
  event.preventDefault();
}

function fillGoal([x, y]) {
  byId("goal-x").value = +x.toFixed(2);
  byId("goal-y").value = +y.toFixed(2);
}

async function send(place) {
  answer("", "");
  try {
    take(await ask("/goal", { goal: place, restart: byId("restart").checked }));
  } catch (error) {
    trouble(error.message);
  }
}

function take({ goal, moved }) {
  note = moved ? "No goal can be there: the nearest place that can be reached was taken. " : "";
  fillGoal(goal);
}

async function say(sentence) {
  try {
    const heard = await ask("/say", { sentence, restart: byId("restart").checked });
    take(heard);
    answer(`Understood: x ${heard.goal[0].toFixed(2)}, y ${heard.goal[1].toFixed(2)} ` +
      `${scene.unit}, confidence ${Math.round(100 * heard.confidence)} %.`, heard.familiar ? "" :
      `This is unlike what was learnt; the nearest known sentence is “${heard.nearest}”.`);
  } catch (error) {
    answer("", error.message);
  }
}

function answer(understood, doubt) {
  const heard = byId("heard");
  [heard.children[0].textContent, heard.children[1].textContent] = [understood, doubt];
  heard.hidden = !understood && !doubt;
}

function describeMarks({ marks, example }) {
  byId("sentence").placeholder = `such as: ${example}`;
  for (const { find } of panels) {
    find("marks").replaceChildren();
    for (const { name, colour, place: [cx, cy], radius } of marks) {
      const mark = element(find("marks"), "circle",
        { class: "mark", cx, cy, r: radius, fill: colour });
      element(mark, "title", {}).textContent = name;
    }
  }
}

function trouble(sentence) {
  tell(sentence, "trouble");
}

function tell(sentence, kind = "") {
  const bar = document.querySelector(".bar");
  bar.className = `bar ${kind}`;
  // A live region is read out at every change, so it changes only with its words.
  if (byId("status").textContent !== sentence) byId("status").textContent = sentence;
}

function receive(frame) {
  // Another session answers at this address now.
  if (frame.session !== scene.frame.session) return location.reload();
  const now = performance.now();
  glide = Math.min(LONGEST_GLIDE, arrived === undefined ? 0 : now - arrived);
  before = shown && shown.episode === frame.episode ? shown : frame;
  [shown, arrived, settled] = [frame, now, false];
  frame.lanes.forEach((lane, index) => {
    const panel = panels[index];
    if (lane.trail) panel.trail = lane.trail;
    else panel.trail.push(lane.place);
  });
  if (frame.sentences) describeMarks(frame.sentences);
  describe();
  showMap();
}

function describe() {
  const { phase, lanes, goal, time, pace } = shown;
  const reached = lanes.filter((lane) => lane.reached !== null);
  lanes.forEach((lane, index) => describeLane(panels[index], lane));
  byId("subgoal-legend").hidden = !lanes.some((lane) => lane.subgoals.length);
  const slow = pace !== null && pace < 0.9 ? `${Math.round(100 * pace)} % of real time` : "real time";
  byId("clock").textContent = goal ? `${seconds(time)} of ${seconds(scene.episode)}, ` +
    (phase === "moving" ? slow : "stopped") : "";
  if (phase === "failed") return trouble(shown.failure);
  if (phase === "waiting") return tell((scene.listens ? "Say where to go, or click" : "Click") +
    " a place on the map to send the agent there.");
  if (reached.length === lanes.length) return tell(`${note}Goal reached.`, "reached");
  if (phase === "over") return tell(`${note}The episode is over.`, "trouble");
  const names = lanes.map((lane, index) => [lane, scene.players[index].name])
    .filter(([lane]) => lane.reached !== null).map(([, name]) => name);
  tell(note + (names.length ? `The ${names.join(" and the ")} reached the goal.` : "On the way."));
}

function describeLane(panel, lane) {
  const { root, find } = panel;
  const late = shown.phase === "over" && lane.reached === null;
  root.classList.toggle("reached", lane.reached !== null);
  root.classList.toggle("trouble", lane.reached === null && (lane.ended !== null || late));
  const outcome = [lane.reached !== null && `Reached after ${seconds(lane.reached)}`,
    lane.ended ?? (late && "not reached in time")].filter(Boolean).join(", then ");
  find("outcome").textContent = outcome && `${outcome[0].toUpperCase()}${outcome.slice(1)}.`;
  if (lane.latency) {
    find("median").textContent = milliseconds(lane.latency.median);
    find("late").textContent = milliseconds(lane.latency.late);
  }
  find("distance").textContent = shown.goal ? length(lane.distance) : "–";
  find("at-goal").textContent = shown.goal ? seconds(lane.at_goal) : "–";
}

function draw() {
  requestAnimationFrame(draw);
  if (settled) return;
  const gone = performance.now() - arrived;
  const share = still.matches || glide === 0 ? 1 : Math.min(1, gone / glide);
  shown.lanes.forEach((lane, index) => drawLane(panels[index], before.lanes[index], lane, share));
  settled = share === 1;
}

function drawLane({ find, trail }, from, to, share) {
  const [x0, y0, x1, y1] = scene.bounds;
  const spot = find("spot"), goal = shown.goal;
  const [x, y] = mix(from.place, to.place, share);
  const reach = Math.max(...to.shapes.map(([ax, ay, bx, by, radius]) => radius +
    Math.max(Math.hypot(ax - to.place[0], ay - to.place[1]),
      Math.hypot(bx - to.place[0], by - to.place[1]))));
  const radius = Math.max(reach, SPOT * Math.max(x1 - x0, y1 - y0));
  set(spot, { cx: x, cy: y, r: radius });
  to.shapes.forEach((shape, index) => {
    const body = find("body");
    const line = body.children[index] ?? element(body, "line", {});
    const [ax, ay, bx, by, width] = mix(from.shapes[index] ?? shape, shape, share);
    set(line, { x1: ax, y1: ay, x2: bx, y2: by, "stroke-width": 2 * width });
  });
  if (to.heading) {
    const [hx, hy] = mix(from.heading, to.heading, share);
    set(find("heading"), { x1: x, y1: y, x2: x + radius * hx, y2: y + radius * hy });
  }
  const way = points([...trail.slice(0, -1), [x, y]]);
  find("halo").setAttribute("points", way);
  find("trail").setAttribute("points", way);
  for (const name of ["goal", "goal-halo"]) {
    find(name).toggleAttribute("hidden", !goal);
    if (goal) set(find(name), { cx: goal[0], cy: goal[1], r: scene.radius });
  }
  const plan = to.subgoals;
  find("plan").setAttribute("points", plan.length ? points([[x, y], ...plan, goal]) : "");
  find("subgoals").replaceChildren();
  for (const [cx, cy] of plan)
    element(find("subgoals"), "circle", { class: "subgoal", cx, cy, r: radius * 0.6 });
}

async function showMap() {
  const goal = byId("show-map").checked && scene.map ? shown.goal : null;
  const name = goal ? goal.join(",") : "";
  if (name === mapGoal) return;
  mapGoal = name;
  byId("map-legend").hidden = !goal;
  for (const { find } of panels) find("values").toggleAttribute("hidden", true);
  if (!goal) return;
  try {
    const { values, scale } = await ask(`/map?goal=${name}`);
    if (mapGoal !== name) return; // another goal was told meanwhile
    byId("scale").textContent = scale.map((end) => end.toPrecision(3)).join(" to ");
    const picture = paint(values, scale);
    for (const { find } of panels) {
      find("values").setAttribute("href", picture);
      find("values").toggleAttribute("hidden", false);
    }
  } catch (error) {
    byId("map-legend").hidden = true;
    trouble(error.message);
  }
}

function paint(values, [low, high]) {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [values.length, values[0].length];
  const context = canvas.getContext("2d");
  const pixels = context.createImageData(canvas.width, canvas.height);
  values.forEach((column, x) => column.forEach((value, y) => {
    if (value === null) return;
    const share = high > low ? (value - low) / (high - low) : 0.5;
    const at = share * (VIRIDIS.length - 1), index = Math.min(Math.floor(at), VIRIDIS.length - 2);
    const colour = mix(VIRIDIS[index], VIRIDIS[index + 1], at - index);
    pixels.data.set([...colour, 255], 4 * (y * canvas.width + x));
  }));
  context.putImageData(pixels, 0, 0);
  return canvas.toDataURL();
}

// A page that is not seen lets the agents rest.
function watch() {
  if (document.hidden) {
    events?.close();
    events = null;
  } else if (!events) {
    events = new EventSource("/events");
    events.onmessage = (event) => receive(JSON.parse(event.data));
    events.onerror = () => trouble("No connection: is `kilolayer serve` still running?");
  }
}

async function begin() {
  try {
    scene = await ask("/state");
  } catch (error) {
    return trouble(error.message);
  }
  build();
  receive(scene.frame);
  byId("controls").addEventListener("submit", (event) => {
    event.preventDefault();
    send([byId("goal-x").valueAsNumber, byId("goal-y").valueAsNumber]);
  });
  byId("sayings").addEventListener("submit", (event) => {
    event.preventDefault();
    say(byId("sentence").value);
  });
  for (const [button, path] of [["reset", "/reset"], ["rearrange", "/marks"]])
    byId(button).addEventListener("click", () => {
      note = "";
      if (path === "/marks") answer("", "");
      ask(path, {}).catch((error) => trouble(error.message));
    });
  byId("show-map").addEventListener("change", showMap);
  document.addEventListener("visibilitychange", watch);
  watch();
  draw();
}

begin();
