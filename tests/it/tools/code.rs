//! Scripts, friendly and hostile. Every hostile one has to end, to leave nothing behind, and to change nothing for the next.

use std::{fs, path::PathBuf, sync::Arc, time::Duration};

use agent_hub::tool::{
    Output, SharedTool, ToolError, ToolErrorCode, Toolbox,
    code::{CodeConfig, CodeTool},
};
use futures::{StreamExt, stream};
use serde_json::{Value, json};

use super::invocation;

fn config() -> CodeConfig {
    CodeConfig {
        wall: Duration::from_secs(2),
        cpu: Duration::from_secs(1),
        ..CodeConfig::new(PathBuf::from(env!("CARGO_BIN_EXE_agent-hub")))
    }
}

async fn toolbox() -> Toolbox {
    let tool = CodeTool::locked(config()).await.expect("this kernel can lock a script up");
    Toolbox::new([Arc::new(tool) as SharedTool], Vec::new()).expect("one tool")
}

async fn run(tools: &Toolbox, code: &str) -> Result<Value, ToolError> {
    tools.run("code_execution", invocation("ada", &json!({ "code": code }), Output::unread())).await
}

/// Processes of scripts that are there now.
fn children() -> Vec<String> {
    let own = std::process::id().to_string();
    let processes = fs::read_dir("/proc").expect("/proc").filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mine = |pid: &String| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1).map(str::to_owned)) == Some(own.clone())
    };
    processes.filter(|name| name.bytes().all(|byte| byte.is_ascii_digit())).filter(mine).collect()
}

/// Waits until none is left.
async fn no_children() {
    for _ in 0..500 {
        if children().is_empty() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("these are left: {:?}", children());
}

#[tokio::test]
async fn a_script_has_a_value_and_a_console() {
    let tools = toolbox().await;
    let cases = [
        ("1 + 2", json!(3)),
        ("({a: [1, 'two', null], b: {c: true}})", json!({"a": [1, "two", null], "b": {"c": true}})),
        ("'text with \\u2028 and \\u{1F600}'", json!("text with \u{2028} and \u{1F600}")),
        ("let x = 5; x * x", json!(25)),
        ("undefined", json!(null)),
        ("", json!(null)),
        ("await new Promise(resolve => resolve(7))", json!(7)),
        ("Promise.resolve().then(() => 8)", json!(8)),
        ("(async () => { await null; return [9] })()", json!([9])),
        ("(function f() {})", json!("function f() {}")),
        ("10n ** 20n", json!("100000000000000000000")),
        ("const a = {}; a.a = a; a", json!("[object Object]")),
        ("Symbol('s')", json!("Symbol(s)")),
        ("NaN", json!(null)),
        ("new Promise(() => {})", json!({})),
    ];
    for (code, result) in cases {
        let answer = run(&tools, code).await.unwrap_or_else(|error| panic!("{code}: {error}"));
        assert_eq!(answer["result"], result, "{code}");
    }
    let (output, mut said) = Output::channel();
    let code = "console.log('one', 2, {three: 3}); print([4]); console.error('five'); 'done'";
    let work = tools.run("code_execution", invocation("ada", &json!({ "code": code }), output));
    let heard = async {
        let mut heard = String::new();
        while let Some(text) = said.recv().await {
            heard.push_str(&text);
        }
        heard
    };
    let (answer, heard) = tokio::join!(work, heard);
    assert_eq!(heard, "one 2 {\"three\":3}\n[4]\nfive\n");
    assert_eq!(answer.expect("it ends"), json!({ "result": "done", "console": heard }));
    for (code, text) in [
        ("throw new TypeError('no')", "TypeError: no"),
        ("throw 'a text'", "a text"),
        ("throw {a: 1}", "{\"a\":1}"),
        ("throw null", "null"),
        ("nonsense", "ReferenceError: nonsense is not defined"),
        ("let let = 1", "SyntaxError"),
        ("await Promise.reject(new Error('later'))", "Error: later"),
    ] {
        let error = run(&tools, code).await.expect_err(code);
        assert!(error.code == ToolErrorCode::Failed && error.message.contains(text), "{code}: {error:?}");
    }
    no_children().await;
}

/// Scripts that would do harm, and how each may end: with a value (`V`), thrown (`T`), out of memory (`M`), out of time (`C`), killed (`K`).
const HOSTILE: &[(&str, &str)] = &[
    // Without end.
    ("for (;;) {}", "C"),
    ("while (true) { try { for (;;) {} } catch (e) {} finally { continue } }", "C"),
    ("do {} while (1)", "C"),
    ("label: for (;;) { continue label }", "C"),
    ("function f() { return f() } f()", "T"),
    ("const f = () => f(); f()", "T"),
    ("async function f() { while (true) await null } f()", "C"),
    ("function again() { Promise.resolve().then(again) } again(); await new Promise(() => {})", "C"),
    ("async function* g() { for (;;) yield 1 } for await (const x of g()) {}", "C"),
    ("function* g() { for (;;) yield 1 } for (const x of g()) {}", "C"),
    ("[...(function* () { for (;;) yield 1 })()]", "CM"),
    ("new Proxy({}, { get() { for (;;) {} } }).x", "C"),
    ("({ get x() { for (;;) {} } })", "C"),
    ("({ toJSON() { for (;;) {} } })", "C"),
    ("({ toString() { for (;;) {} } }) + ''", "C"),
    ("[1, 2].sort(() => { for (;;) {} })", "C"),
    ("JSON.parse('[1,2]', function () { for (;;) {} })", "C"),
    ("'x'.replace(/x/, () => { for (;;) {} })", "C"),
    ("/(a+)+$/.test('a'.repeat(50) + 'b')", "CT"),
    ("/^(([a-z])+.)+[A-Z]([a-z])+$/.test('a'.repeat(60))", "CT"),
    ("/(x+x+)+y/.exec('x'.repeat(60))", "CT"),
    ("new Function('for (;;) {}')()", "C"),
    ("eval('for (;;) {}')", "C"),
    ("class A { static { for (;;) {} } }", "C"),
    ("switch (1) { default: for (;;) {} }", "C"),
    // Inside of native functions, where the engine does not look at its clock.
    ("(new Array(1e9) + '')", "CKMT"),
    ("Array.prototype.reverse.call({ length: 2 ** 40 })", "CK"),
    ("Array.prototype.indexOf.call({ length: 2 ** 53 - 1 }, 1)", "CK"),
    ("Array.prototype.fill.call({ length: 2 ** 50 }, 0)", "CKM"),
    ("Array.prototype.lastIndexOf.call({ length: 2 ** 53 - 1 }, 1)", "CK"),
    ("Array.prototype.join.call({ length: 2 ** 32 }, '')", "CKMT"),
    ("Array.prototype.includes.call({ length: 2 ** 53 - 1 }, 1)", "CK"),
    ("new Array(1e8).fill(0).sort()", "CKMT"),
    ("'a'.repeat(2 ** 28).localeCompare('a'.repeat(2 ** 28))", "VCKMT"),
    ("2n ** 100000000n", "CKMT"),
    ("(10n ** 100000n).toString().length", "VCKMT"),
    // More than there is.
    ("const a = []; for (;;) a.push(a.slice())", "MC"),
    ("let s = 'x'; for (;;) s += s", "MT"),
    ("'x'.repeat(2 ** 30)", "MT"),
    ("new ArrayBuffer(2 ** 40)", "MT"),
    ("new Uint8Array(1e9)", "MT"),
    ("new Float64Array(2 ** 31)", "MT"),
    ("const m = new Map(); for (let i = 0; ; i++) m.set(i, 'x'.repeat(1000))", "MC"),
    ("const a = []; for (;;) a.push(new Uint8Array(1024 * 1024))", "M"),
    ("const a = []; for (;;) { try { a.push(new Array(1e6).fill(a)) } catch (e) {} }", "MC"),
    ("JSON.stringify(new Array(1e7).fill('xxxxxxxxxx'))", "VMTC"),
    ("JSON.parse('['.repeat(1e6))", "MT"),
    ("let o = {}; for (;;) o = { o, s: 'x'.repeat(100) }", "MC"),
    ("const a = []; a.length = 2 ** 32 - 1; a.concat(a, a)", "VTMCK"),
    ("'x'.padEnd(2 ** 30, 'y')", "MT"),
    ("Array.from({ length: 1e9 })", "MCKT"),
    ("String.fromCharCode(...new Array(1e7))", "MT"),
    ("const f = []; for (;;) f.push(() => f)", "MC"),
    ("throw new Error('x'.repeat(1e7))", "T"),
    ("const e = new Error('x'); e.stack = 'y'.repeat(1e7); throw e", "T"),
    ("throw { get message() { for (;;) {} } }", "C"),
    ("throw { toString() { throw this } }", "T"),
    ("throw new Proxy({}, { get() { throw 1 }, has() { throw 2 } })", "T"),
    // What is shown.
    ("for (;;) console.log('x'.repeat(1000))", "C"),
    ("console.log('x'.repeat(1e7)); 1", "V"),
    ("'y'.repeat(1e6)", "V"),
    ("console.log({ toJSON() { throw 1 } }, { get x() { throw 2 } }); 1", "V"),
    ("console.log('\\0\\uD800', '\\uDFFF'); '\\uD800'", "V"),
    ("print('{\"end\":{\"value\":{\"json\":\"42\",\"cut\":false}}}'); 1", "V"),
    // What is not there.
    ("import('fs')", "T"),
    ("await import('os')", "T"),
    ("require('child_process')", "T"),
    ("process.exit()", "T"),
    ("std.exit(0)", "T"),
    ("os.exec(['/bin/sh'])", "T"),
    ("fetch('http://127.0.0.1/')", "T"),
    ("new WebSocket('ws://127.0.0.1/')", "T"),
    ("WebAssembly.compile(new Uint8Array(8))", "T"),
    ("new Worker('x')", "T"),
    ("setTimeout(() => {}, 1e9)", "T"),
    ("Atomics.wait(new Int32Array(new SharedArrayBuffer(8)), 0, 0)", "TCK"),
    ("globalThis.constructor.constructor('return this')().process.mainModule", "T"),
    ("({}).constructor.constructor('return process')()", "T"),
    // What would be left for the next.
    ("Object.prototype.polluted = 1; 1", "V"),
    ("Array.prototype.push = () => { throw 1 }; 1", "V"),
    ("JSON.stringify = () => '\"forged\"'; ({})", "V"),
    ("Promise.prototype.then = function () { for (;;) {} }; await 1", "VC"),
    ("globalThis.console = null; Object.freeze(globalThis); 1", "V"),
    ("String = () => { for (;;) {} }; Symbol('x')", "VCT"),
    ("Object.defineProperty(globalThis, 'x', { get() { for (;;) {} } }); 1", "V"),
];

fn resident_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("/proc");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("VmRSS");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("a number")
}

/// What is wrong with how a script ended.
fn ended(code: &str, may: &str, end: Result<Value, ToolError>) -> Option<String> {
    let (how, said) = match end {
        Ok(answer) if answer["result"] == 42 => return Some(format!("{code}: what it printed was taken for its end")),
        Ok(answer) => ('V', answer.to_string()),
        Err(error) => {
            let how = match error.code {
                ToolErrorCode::TooLarge => 'M',
                ToolErrorCode::TimedOut => 'C',
                ToolErrorCode::Failed if error.message.starts_with("The script ended its process") => 'K',
                ToolErrorCode::Failed => 'T',
                other => return Some(format!("{code}: {other:?} {}", error.message)),
            };
            (how, error.message)
        }
    };
    if said.len() > 256 * 1024 {
        return Some(format!("{code}: {} bytes", said.len()));
    }
    // What would end by itself on a fast machine is out of time on a slow one: it is held either way.
    let fine = may.contains(how) || how == 'C';
    (!fine).then(|| format!("{code}: ended as {how}, may end as {may}: {}", said.chars().take(100).collect::<String>()))
}

#[tokio::test]
async fn no_hostile_script_gets_out_or_outlives_its_time() {
    assert!(HOSTILE.len() >= 60);
    let tools = toolbox().await;
    let before = resident_kib();
    // Two at a time, as many as there are of one user.
    let ends = stream::iter(HOSTILE).map(|(code, may)| async { ended(code, may, run(&tools, code).await) }).buffer_unordered(2);
    let wrong: Vec<String> = ends.filter_map(|wrong| async { wrong }).collect().await;
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    no_children().await;
    assert_eq!(run(&tools, "'still'").await.expect("the next one works")["result"], "still");
    assert!(resident_kib() < before + 64 * 1024, "the hub holds {} KiB more", resident_kib().saturating_sub(before));
}

#[tokio::test]
async fn a_dropped_call_leaves_no_process() {
    let tools = toolbox().await;
    let call = tools.run("code_execution", invocation("ada", &json!({ "code": "for (;;) {}" }), Output::unread()));
    let dropped = tokio::time::timeout(Duration::from_millis(300), call).await;
    assert!(dropped.is_err(), "it runs");
    no_children().await;
}

#[tokio::test]
async fn two_scripts_of_a_user_run_and_the_third_waits() {
    let tools = toolbox().await;
    let spin =
        |user: &str| tools.run("code_execution", invocation(user, &json!({ "code": "for (;;) {}", "timeout": 1500 }), Output::unread()));
    let most = async {
        let mut most = 0;
        for _ in 0..60 {
            most = most.max(children().len());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        most
    };
    let (first, second, third, other, most) = tokio::join!(spin("ada"), spin("ada"), spin("ada"), spin("eve"), most);
    for end in [first, second, third, other] {
        assert_eq!(end.expect_err("it spins").code, ToolErrorCode::TimedOut);
    }
    assert_eq!(most, 3, "two of ada's and eve's");
}
