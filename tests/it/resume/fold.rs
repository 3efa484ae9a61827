//! A client's state, as the protocol describes it: from a snapshot, from events, or from one and then the other.

use serde_json::{Value, json};

/// The conversation and the tasks of one session.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct State {
    messages: Vec<Value>,
    tasks: Vec<Value>,
    /// Unfinished tasks in the order they run.
    line: Vec<String>,
    inputs: Vec<Value>,
    /// Steering inputs, to be shown when they are applied.
    steers: Vec<(String, String)>,
    /// What a recovery has declared void, by task.
    void: Vec<(String, Value)>,
}

impl State {
    pub(super) fn of_snapshot(snapshot: &Value) -> Self {
        assert_eq!(snapshot["earlierMessages"], 0, "the test is to stay within a snapshot's bounds");
        let list = |name: &str| snapshot[name].as_array().expect("a list").clone();
        let mut tasks = list("tasks");
        for task in &mut tasks {
            for field in ["partial", "result", "error", "startedAt", "completedAt", "suspension"] {
                task[field] = task.get(field).cloned().unwrap_or_default();
            }
            task["cancelRequested"] = task.get("cancelRequested").cloned().unwrap_or(json!(false));
        }
        let mut messages = list("messages");
        for message in &mut messages {
            message["partial"] = message.get("partial").cloned().unwrap_or(json!(false));
        }
        let queue: Vec<String> = list("queue").iter().map(text).collect();
        let working = tasks.iter().filter(|task| task["status"] == "running" || task["status"] == "suspended");
        let line = working.map(|task| text(&task["taskId"])).chain(queue).collect();
        Self { messages, tasks, line, inputs: list("pendingInputs"), steers: Vec::new(), void: Vec::new() }
    }

    pub(super) fn of_log(events: &[Value]) -> Self {
        let mut state = Self::default();
        events.iter().for_each(|event| state.apply(event));
        state
    }

    /// What a reader sees: two states that show the same are the same.
    pub(super) fn shown(&self) -> Value {
        let queue: Vec<&String> =
            self.line.iter().filter(|id| self.tasks.iter().any(|t| t["taskId"] == **id && t["status"] == "queued")).collect();
        // Of the results only the newest is shown; the others stand among the messages.
        let mut tasks = self.tasks.clone();
        let newest = tasks.iter().rposition(|task| !task["result"].is_null());
        for (_, task) in tasks.iter_mut().enumerate().filter(|(at, _)| Some(*at) != newest) {
            task["result"] = Value::Null;
        }
        json!({"messages": self.messages, "tasks": tasks, "queue": queue, "pendingInputs": self.inputs})
    }

    pub(super) fn apply(&mut self, event: &Value) {
        let (data, seq, at) = (&event["data"], &event["seq"], &event["at"]);
        let id = event["taskId"].as_str().unwrap_or_default().to_owned();
        let kind = event["type"].as_str().expect("a type");
        match kind {
            "task_queued" => self.queue(&id, event),
            "task_started" => {
                let task = self.task(&id);
                let first = task["startedAt"].is_null();
                (task["status"], task["attempt"]) = (json!("running"), data["attempt"].clone());
                if first {
                    task["startedAt"] = at.clone();
                    let prompt = task["prompt"].clone();
                    self.say(data, "user", &prompt, &id, seq);
                }
            }
            "step" if data["phase"] == "completed" => {
                let task = self.task(&id);
                task["stepsCompleted"] = json!(task["stepsCompleted"].as_u64().expect("a number") + 1);
            }
            "token" => self.stream(&id, data, seq),
            "message" => {
                self.task(&id)["partial"] = Value::Null;
                let streamed = self.messages.iter().position(|message| message["messageId"] == data["messageId"]);
                let seq = streamed.map_or(seq.clone(), |at| self.messages.remove(at)["seq"].clone());
                self.say(data, "assistant", &data["text"], &id, &seq);
                self.messages.last_mut().expect("just said")["partial"] = data.get("partial").cloned().unwrap_or(json!(false));
            }
            "usage" => {
                let usage = &mut self.task(&id)["usage"];
                for field in ["inputTokens", "outputTokens"] {
                    usage[field] = json!(usage[field].as_u64().expect("a number") + data[field].as_u64().expect("a number"));
                }
            }
            "input_requested" => {
                let mut request = data.clone();
                request["taskId"] = json!(id);
                self.inputs.push(request);
            }
            "input_resolved" => self.inputs.retain(|input| input["taskId"] != *id || input["requestId"] != data["requestId"]),
            "task_suspended" => {
                let mut suspension = data.clone();
                suspension["at"] = event["at"].clone();
                (self.task(&id)["status"], self.task(&id)["suspension"]) = (json!("suspended"), suspension);
            }
            "task_resumed" => (self.task(&id)["status"], self.task(&id)["suspension"]) = (json!("running"), Value::Null),
            "steer_accepted" => self.steers.push((text(&data["steerId"]), text(&data["input"]))),
            "steer_applied" => {
                let input = self.steers.iter().find(|(steer, _)| data["steerId"] == **steer).map(|(_, input)| json!(input));
                // Accepted before the snapshot, and not in it: the input is not known.
                let input = input.unwrap_or(Value::Null);
                self.say(data, "user", &input, &id, seq);
            }
            "cancel_requested" => {
                self.task(&id)["cancelRequested"] = json!(true);
                if data["rollback"] == true {
                    self.task(&id)["rollback"] = json!(true);
                }
            }
            "task_recovering" => self.recover(&id, data),
            "task_completed" | "task_failed" | "task_cancelled" | "task_timeout" => self.end(&id, kind, event),
            _ => {}
        }
    }

    fn queue(&mut self, id: &str, event: &Value) {
        let data = &event["data"];
        let place = data["position"].as_u64().expect("a place") as usize;
        self.line.insert(place.min(self.line.len()), id.to_owned());
        self.tasks.push(json!({
            "taskId": id, "status": "queued", "prompt": data["prompt"], "attempt": 0, "stepsCompleted": 0, "cancelRequested": false,
            "partial": null, "result": null, "error": null, "usage": {"inputTokens": 0, "outputTokens": 0}, "createdAt": event["at"],
            "startedAt": null, "completedAt": null, "suspension": null, "firstSeq": event["seq"],
        }));
    }

    fn stream(&mut self, id: &str, data: &Value, seq: &Value) {
        let known = self.messages.iter_mut().find(|message| message["messageId"] == data["messageId"]);
        let so_far = match known {
            Some(message) => {
                message["text"] = json!(format!("{}{}", text(&message["text"]), text(&data["token"])));
                message["text"].clone()
            }
            None => {
                self.say(data, "assistant", &data["token"], id, seq);
                self.messages.last_mut().expect("just said")["partial"] = json!(true);
                data["token"].clone()
            }
        };
        self.task(id)["partial"] = json!({"messageId": data["messageId"], "text": so_far});
    }

    fn recover(&mut self, id: &str, data: &Value) {
        self.task(id)["attempt"] = data["attempt"].clone();
        let partial = self.task(id)["partial"].take();
        if let Some(at) = self.messages.iter().position(|message| message["messageId"] == partial["messageId"]) {
            self.void.push((id.to_owned(), self.messages.remove(at)));
        }
    }

    fn end(&mut self, id: &str, kind: &str, event: &Value) {
        let data = &event["data"];
        self.line.retain(|waiting| waiting != id);
        let task = self.task(id);
        task["suspension"] = Value::Null;
        (task["status"], task["completedAt"]) = (json!(&kind["task_".len()..]), event["at"].clone());
        if kind == "task_completed" {
            task["result"] = data["result"].clone();
        }
        if kind == "task_failed" {
            task["error"] = json!({"code": data["code"], "message": data["message"]});
        }
        let taken_back = task.as_object_mut().expect("an object").remove("rollback").is_some();
        if taken_back {
            self.messages.retain(|message| message["taskId"] != *id);
        }
        if let Some(at) = self.void.iter().position(|(of, _)| of == id) {
            let (_, message) = self.void.remove(at);
            if kind == "task_failed" && self.task(id)["partial"].is_null() {
                self.task(id)["partial"] = json!({"messageId": message["messageId"], "text": message["text"]});
                self.messages.push(message);
            }
        }
    }

    fn say(&mut self, data: &Value, role: &str, text: &Value, task: &str, seq: &Value) {
        self.messages.push(json!({
            "messageId": data["messageId"], "role": role, "text": text, "taskId": task, "partial": false, "seq": seq,
        }));
    }

    fn task(&mut self, id: &str) -> &mut Value {
        self.tasks.iter_mut().find(|task| task["taskId"] == *id).unwrap_or_else(|| panic!("no task {id}"))
    }
}

fn text(value: &Value) -> String {
    value.as_str().expect("text").to_owned()
}
