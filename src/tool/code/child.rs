//! The process of one script. It has one thread, reads one request, locks itself up, runs the script, says how it went, and ends.

use std::{
    cell::RefCell,
    fs,
    io::{self, Read as _, Write as _},
    net::{TcpListener, TcpStream, UdpSocket},
    process::{Command, ExitCode},
    rc::Rc,
    time::{Duration, Instant},
};

use rquickjs::{Context, Ctx, Function, Object, Runtime, Value, function::Rest, promise::PromiseState};

use super::{
    jail,
    protocol::{End, Line, Request},
};

/// Instead of a script: try to get out, and say what is open.
pub const PROBE: &str = "--probe";
/// What is said when nothing is.
pub const LOCKED: &str = "locked";

/// A request is a script and some numbers, and was bounded where it came from.
const REQUEST_BYTES: u64 = 4 * 1024 * 1024;
/// Of the engine's own stack, in bytes.
const STACK_BYTES: usize = 512 * 1024;
/// What a script threw is told up to here, in bytes.
const THROWN_BYTES: usize = 4 * 1024;

/// What the program does when it is the child. Nothing of the hub was set up.
pub fn main(arguments: &[String]) -> ExitCode {
    let said = if arguments.first().is_some_and(|argument| argument == PROBE) { probe() } else { work() };
    match said {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            // Nobody reads it but who started it by hand.
            let _ = writeln!(io::stderr(), "{why}");
            ExitCode::FAILURE
        }
    }
}

fn work() -> Result<(), String> {
    let mut request = Vec::new();
    io::stdin().take(REQUEST_BYTES).read_to_end(&mut request).map_err(|error| error.to_string())?;
    let request: Request = serde_json::from_slice(&request).map_err(|error| error.to_string())?;
    let (runtime, context) = engine(&request).map_err(|error| error.to_string())?;
    jail::lock(request.cpu.as_secs() + 2)?;
    let end = run(&runtime, &context, &request);
    say(&Line::End(end));
    // The engine's own tidying may take as long as the script has made it.
    std::process::exit(0)
}

fn say(line: &Line) {
    let mut text = serde_json::to_vec(line).unwrap_or_default();
    text.push(b'\n');
    // Whoever does not listen any more needs nothing.
    let _ = io::stdout().lock().write_all(&text);
}

fn engine(request: &Request) -> rquickjs::Result<(Runtime, Context)> {
    let runtime = Runtime::new()?;
    runtime.set_memory_limit(request.memory);
    runtime.set_max_stack_size(STACK_BYTES);
    let context = Context::full(&runtime)?;
    Ok((runtime, context))
}

/// What a script prints, as far as it is passed on.
struct Console {
    left: usize,
    cut: bool,
}

impl Console {
    fn print(&mut self, mut text: String) {
        text.push('\n');
        if text.len() > self.left {
            self.cut = true;
            text.truncate((0..=self.left).rev().find(|at| text.is_char_boundary(*at)).unwrap_or_default());
        }
        self.left -= text.len();
        if !text.is_empty() {
            say(&Line::Say(text));
        }
    }
}

fn run(runtime: &Runtime, context: &Context, request: &Request) -> End {
    let until = Instant::now() + request.cpu;
    let late = Rc::new(RefCell::new(false));
    let noticed = Rc::clone(&late);
    runtime.set_interrupt_handler(Some(Box::new(move || {
        let over = Instant::now() >= until;
        *noticed.borrow_mut() |= over;
        over
    })));
    let console = Rc::new(RefCell::new(Console { left: request.output, cut: false }));
    let end = context.with(|ctx| {
        let outcome = prepare(&ctx, &console).and_then(|()| evaluate(&ctx, &request.code));
        match outcome {
            Ok(json) => {
                let (json, too_long) = cut(json, request.output);
                End::Value { json, cut: too_long || console.borrow().cut }
            }
            Err(error) => thrown(&ctx, &error),
        }
    });
    match end {
        _ if *late.borrow() => End::OutOfTime,
        // Without room for an error the engine throws nothing at all.
        End::Thrown { text } if text == "null" && is_full(runtime, request.memory) => End::OutOfMemory,
        end => end,
    }
}

/// Whether nearly all memory is taken.
fn is_full(runtime: &Runtime, limit: usize) -> bool {
    usize::try_from(runtime.memory_usage().malloc_size).is_ok_and(|taken| taken >= limit / 10 * 9)
}

/// Gives the script a console, and nothing else.
fn prepare<'js>(ctx: &Ctx<'js>, console: &Rc<RefCell<Console>>) -> rquickjs::Result<()> {
    let printer = Rc::clone(console);
    let print = Function::new(ctx.clone(), move |ctx: Ctx<'js>, values: Rest<Value<'js>>| {
        let words: Vec<String> = values.0.into_iter().map(|value| readable(&ctx, value)).collect();
        printer.borrow_mut().print(words.join(" "));
    })?;
    let object = Object::new(ctx.clone())?;
    for name in ["log", "info", "warn", "error", "debug"] {
        object.set(name, print.clone())?;
    }
    ctx.globals().set("console", object)?;
    ctx.globals().set("print", print)
}

/// Runs the script and what it has put off, and gives its value as JSON.
fn evaluate(ctx: &Ctx<'_>, code: &str) -> rquickjs::Result<String> {
    let promise = ctx.eval_promise(code)?;
    while promise.state() == PromiseState::Pending && ctx.execute_pending_job() {}
    let Some(settled) = promise.result::<Object<'_>>() else {
        return Ok("\"[it waits for something that never comes]\"".to_owned());
    };
    let value: Value<'_> = settled?.get("value")?;
    // A script may end with a promise instead of waiting for it.
    let value = match value.as_promise().cloned() {
        Some(promise) => {
            while promise.state() == PromiseState::Pending && ctx.execute_pending_job() {}
            promise.result::<Value<'_>>().transpose()?.unwrap_or(value)
        }
        None => value,
    };
    if value.is_undefined() {
        return Ok("null".to_owned());
    }
    let json = match ctx.json_stringify(value.clone()) {
        Ok(text) => text.and_then(|text| text.to_string().ok()),
        // A circle, a big number: not JSON, and still something that can be shown.
        Err(rquickjs::Error::Exception) if !out_of_memory(&readable_exception(ctx)) => None,
        Err(error) => return Err(error),
    };
    Ok(json.unwrap_or_else(|| serde_json::Value::String(readable(ctx, value)).to_string()))
}

/// A value as a person would see it: text as it is, what has JSON as that, and else what it calls itself.
fn readable<'js>(ctx: &Ctx<'js>, value: Value<'js>) -> String {
    if let Some(text) = value.as_string() {
        return text.to_string().unwrap_or_else(|_| "[text that is not Unicode]".to_owned());
    }
    if value.is_object() && !value.is_function() && !value.is_error() {
        if let Ok(Some(text)) = ctx.json_stringify(value.clone()) {
            return text.to_string().unwrap_or_default();
        }
        let _ = ctx.catch();
    }
    let named: rquickjs::Result<String> = ctx.globals().get::<_, Function<'js>>("String").and_then(|string| string.call((value,)));
    named.unwrap_or_else(|_| {
        let _ = ctx.catch();
        "[something that cannot be shown]".to_owned()
    })
}

fn readable_exception(ctx: &Ctx<'_>) -> String {
    let thrown = ctx.catch();
    let text = thrown.as_object().and_then(|error| {
        let part = |name: &str| error.get::<_, String>(name).ok().filter(|text| !text.is_empty());
        let (name, message) = (part("name"), part("message"));
        let place = part("stack").and_then(|stack| stack.lines().next().map(|line| line.trim().to_owned()));
        let what = match (name, message) {
            (Some(name), Some(message)) => format!("{name}: {message}"),
            (Some(one), None) | (None, Some(one)) => one,
            (None, None) => return None,
        };
        Some(place.map_or_else(|| what.clone(), |place| format!("{what} ({place})")))
    });
    text.unwrap_or_else(|| readable(ctx, thrown))
}

fn out_of_memory(text: &str) -> bool {
    text.starts_with("InternalError: out of memory")
}

fn thrown(ctx: &Ctx<'_>, error: &rquickjs::Error) -> End {
    match error {
        rquickjs::Error::Allocation => End::OutOfMemory,
        rquickjs::Error::Exception => match readable_exception(ctx) {
            text if out_of_memory(&text) => End::OutOfMemory,
            text => End::Thrown { text: cut(text, THROWN_BYTES).0 },
        },
        other => End::Thrown { text: other.to_string() },
    }
}

fn cut(mut text: String, most: usize) -> (String, bool) {
    let too_long = text.len() > most;
    if too_long {
        text.truncate((0..=most).rev().find(|at| text.is_char_boundary(*at)).unwrap_or_default());
    }
    (text, too_long)
}

/// Locks the process up and tries to get out by everything a program usually does.
fn probe() -> Result<(), String> {
    jail::lock(5)?;
    let mut open = Vec::new();
    let mut tries = |what: &'static str, went_well: bool| {
        if went_well {
            open.push(what);
        }
    };
    tries("reading a file", fs::read("/etc/passwd").is_ok());
    tries("reading its memory map", fs::read("/proc/self/maps").is_ok());
    tries("listing a directory", fs::read_dir("/").is_ok());
    tries("writing a file", fs::write("/tmp/agent-hub-probe", "x").is_ok());
    tries("making a directory", fs::create_dir("/tmp/agent-hub-probe-dir").is_ok());
    tries("looking at a file", fs::metadata("/etc/passwd").is_ok());
    tries("connecting", TcpStream::connect_timeout(&([127, 0, 0, 1], 9).into(), Duration::from_millis(100)).is_ok_and(|_| true));
    tries("listening", TcpListener::bind("127.0.0.1:0").is_ok());
    tries("a datagram", UdpSocket::bind("127.0.0.1:0").is_ok());
    tries("starting a program", Command::new("/bin/true").spawn().is_ok());
    tries("another thread", std::thread::Builder::new().spawn(|| ()).is_ok());
    tries("killing", rustix::process::test_kill_process(rustix::process::Pid::INIT).is_ok());
    if open.is_empty() { writeln!(io::stdout(), "{LOCKED}") } else { writeln!(io::stdout(), "these are open: {}", open.join(", ")) }
        .map_err(|error| error.to_string())
}
