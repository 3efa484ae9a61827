// What was said in a session, drawn from a snapshot and the events behind it: the same in every tab, whenever it came.
const ENDS = { task_completed: "", task_failed: "failed", task_cancelled: "stopped", task_timeout: "timed out" };

export class Conversation {
  #place; #changed;
  #messages = new Map(); // messageId -> its element
  #tasks = new Map(); // taskId -> "queued", "running" or "suspended"; unfinished ones only
  #questions = new Map(); // requestId -> input_requested
  ended = false;

  constructor(place, changed) { this.#place = place; this.#changed = changed; }

  /** The task that runs, or the first that waits. */
  get current() { return this.#with("running") ?? this.#with("suspended") ?? this.#with("queued"); }
  get running() { return this.#with("running"); }
  get question() { return this.#questions.values().next().value; }
  #with(status) { for (const [id, is] of this.#tasks) if (is === status) return id; }

  restore({ session, messages, tasks, pendingInputs }) {
    for (const map of [this.#messages, this.#tasks, this.#questions]) map.clear();
    this.ended = session?.status === "ended";
    this.#place.replaceChildren();
    for (const { messageId, role, text, taskId, seq } of messages) this.#message(messageId, role, taskId, seq).textContent = text;
    for (const { taskId, status, prompt, partial } of tasks) {
      if (!["queued", "running", "suspended"].includes(status)) continue;
      this.#tasks.set(taskId, status);
      if (status === "queued" && prompt) this.expect(taskId, prompt);
      if (partial) this.#messages.get(partial.messageId)?.classList.add("open");
    }
    for (const question of pendingInputs) this.#questions.set(question.requestId, question);
    if (!messages.length && session) this.note("Nothing said yet. Ask something; it comes back token by token, in every tab.", "empty");
    this.#place.scrollTop = this.#place.scrollHeight;
    this.#changed();
  }

  apply({ type, taskId, seq, data }) {
    const stay = this.#place.scrollHeight - this.#place.scrollTop - this.#place.clientHeight > 80;
    this.#follow(type, taskId, seq, data);
    if (!stay) this.#place.scrollTop = this.#place.scrollHeight;
    this.#changed();
  }

  #follow(type, taskId, seq, data) {
    switch (type) {
      case "session_ended": this.ended = true; return this.note("The session has ended.");
      case "task_queued": this.#tasks.set(taskId, "queued"); return this.expect(taskId, data.prompt);
      case "task_started": return this.#started(taskId, data.messageId, seq);
      case "task_suspended": return void this.#tasks.set(taskId, "suspended");
      case "task_resumed": return void this.#tasks.set(taskId, "running");
      case "reasoning": return void (this.#thought(taskId).textContent += data.token);
      case "token": return void this.#open(data.messageId, taskId, seq).append(data.token);
      case "message": return this.#finished(data, taskId, seq);
      case "tool_call": return this.note(`${data.tool} ${JSON.stringify(data.arguments)}`);
      case "tool_result": return data.error && this.note(String(data.error), "bad");
      case "input_requested": return void this.#questions.set(data.requestId, { ...data, taskId });
      case "input_resolved": return void this.#questions.delete(data.requestId);
      case "steer_applied": return void (this.#message(data.messageId, "user", taskId, seq).textContent = data.input);
      case "steer_rejected": return this.note("Came too late: " + data.input);
      case "cancel_requested": if (data.rollback) for (const one of this.#of(taskId)) one.dataset.undone = true; return;
      case "task_recovering": for (const one of this.#of(taskId)) if (Number(one.dataset.seq) > data.discardAfter) this.#drop(one); return this.note("The hub was restarted; it goes on.");
      default: if (type in ENDS) this.#end(type, taskId, seq, data);
    }
  }

  /** A prompt that waits for its turn: below everything that has been said. */
  expect(taskId, prompt) {
    if (!prompt || this.#waiting(taskId)) return;
    const line = this.#line("user waiting", prompt);
    line.dataset.task = taskId;
    this.#place.append(line);
    this.#place.scrollTop = this.#place.scrollHeight;
  }

  forget(taskId) { this.#waiting(taskId)?.remove(); }

  note(text, kind = "") { this.#put(this.#line("note " + kind, text)); }

  #waiting(taskId) { return this.#place.querySelector(`.waiting[data-task="${taskId}"]`); }
  #of(taskId) { return this.#place.querySelectorAll(`[data-task="${taskId}"][data-message]`); }

  #started(taskId, messageId, seq) {
    this.#tasks.set(taskId, "running");
    if (this.#messages.has(messageId)) return; // another attempt
    const prompt = this.#waiting(taskId);
    this.#message(messageId, "user", taskId, seq).textContent = prompt?.textContent ?? "";
    prompt?.remove();
  }

  #open(messageId, taskId, seq) {
    this.#place.querySelector(".thought")?.remove();
    const line = this.#messages.get(messageId) ?? this.#message(messageId, "assistant", taskId, seq);
    line.classList.add("open");
    line.ariaBusy = "true"; // read aloud when it is whole
    return line;
  }

  #finished({ messageId, role, text }, taskId, seq) {
    const line = this.#messages.get(messageId) ?? this.#message(messageId, role, taskId, seq);
    if (line.textContent !== text) line.textContent = text;
    this.#close(line);
  }

  #end(type, taskId, seq, data) {
    this.#tasks.delete(taskId);
    this.#place.querySelector(".thought")?.remove();
    for (const [id, question] of this.#questions) if (question.taskId === taskId) this.#questions.delete(id);
    this.forget(taskId);
    const said = [...this.#of(taskId)];
    said.forEach((line) => this.#close(line));
    // Text that a restart made void stays after all when nothing took its place.
    if (data.partial && !said.some((line) => line.classList.contains("assistant"))) this.#message("partial " + taskId, "assistant", taskId, seq).textContent = data.partial;
    said.filter((line) => line.dataset.undone).forEach((line) => this.#drop(line));
    if (ENDS[type]) this.note(`${ENDS[type]}${data.message ? ": " + data.message : data.reason ? ": " + data.reason : ""}`, type === "task_cancelled" ? "" : "bad");
  }

  #thought(taskId) {
    const there = this.#place.querySelector(".thought");
    if (there) return there;
    const line = this.#line("note thought", "");
    line.dataset.task = taskId;
    return this.#put(line);
  }

  #message(messageId, role, taskId, seq) {
    const line = this.#line(role, "");
    Object.assign(line.dataset, { message: messageId, task: taskId, seq });
    this.#messages.set(messageId, line);
    return this.#put(line);
  }

  #close(line) { line.classList.remove("open"); line.ariaBusy = "false"; }
  #drop(line) { this.#messages.delete(line.dataset.message); line.remove(); }
  #line(kind, text) { return Object.assign(document.createElement("div"), { className: kind.trim(), textContent: text }); }

  #put(line) {
    if (!line.classList.contains("empty")) this.#place.querySelector(".empty")?.remove();
    this.#place.insertBefore(line, this.#place.querySelector(".waiting"));
    return line;
  }
}
