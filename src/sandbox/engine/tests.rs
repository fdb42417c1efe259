use std::{thread, time::Duration};

use super::*;
use crate::{
    domain::{LogLevel, Millis, kv::Page},
    sandbox::{
        call::{FetchRequest, FetchResponse, KvWrite, Space, Ttl},
        lane_loop::run_here,
        protocol::{ContextId, Facts, Owner as OwnerFacts, Raw},
    },
};

/// A script and what it is to run on.
struct Script {
    code: String,
    form: Form,
    takes_context: bool,
    limits: RunLimits,
    data: String,
    loop_emits: u32,
}

fn handler(code: &str) -> Script {
    Script {
        code: code.to_owned(),
        form: Form::Handler,
        takes_context: true,
        limits: RunLimits::default(),
        data: r#"{"amount":10}"#.into(),
        loop_emits: u32::MAX,
    }
}

/// The body of a handler.
fn body(code: &str) -> Script {
    handler(&format!("export default async function (payload, context) {{\n{code}\n}}"))
}

impl Script {
    fn limits(mut self, change: impl FnOnce(&mut RunLimits)) -> Self {
        change(&mut self.limits);
        self
    }

    fn on(mut self, data: &str) -> Self {
        self.data = data.into();
        self
    }

    fn open(&self) -> Open<'_> {
        Open {
            context: ContextId(1),
            limits: self.limits,
            file: "test.js",
            code: &self.code,
            modules: Vec::new(),
            form: self.form,
            takes_context: self.takes_context,
            owner: OwnerFacts {
                subscription: [1; 16],
                subscription_name: "sub",
                script: [2; 16],
                script_name: "test",
                script_version: 3,
            },
        }
    }

    fn request(&self) -> RunRequest<'_> {
        RunRequest {
            context: ContextId(1),
            key: RunKey(7),
            data: Raw(self.data.as_bytes()),
            facts: Facts {
                uid: [3; 16],
                id: Some("evt-1"),
                source: "/tests",
                event_type: "order.paid",
                subject: None,
                time: None,
                accepted_at: Millis(0),
                extensions: Some(r#"{"region":"eu"}"#),
                hop: 2,
                run_id: [4; 16],
                attempt: 1,
                max_attempts: 3,
                replayed: false,
                idempotency_key: None,
            },
            emits_within_loop_limits: self.loop_emits,
            loop_message: Some("a -> b -> a"),
            record: false,
            tape: None,
        }
    }

    /// Runs it on a thread with a lane's stack.
    fn run(self) -> RunReport {
        self.run_times(1).remove(0)
    }

    /// Runs it several times in one context.
    fn run_times(self, times: usize) -> Vec<RunReport> {
        lane_thread(move || {
            let mut engine = Engine::open(&self.open());
            let mut clock = CpuClock::start();
            (0..times).map(|_| to_the_end(&mut engine, &self.request(), &mut clock)).collect()
        })
    }

    #[track_caller]
    fn returns(self, expected: &str) {
        let report = self.run();
        assert_eq!(report.outcome.as_deref(), Ok(expected), "{report:?}");
    }

    #[track_caller]
    fn fails(self, kind: ErrorKind, message: &str) -> RunReport {
        let report = self.run();
        let error = report.outcome.clone().expect_err("it should fail");
        assert_eq!(error.kind, kind, "{error:?}");
        assert!(error.message.contains(message), "{error:?}");
        report
    }
}

fn to_the_end(engine: &mut Engine, request: &RunRequest<'_>, clock: &mut CpuClock) -> RunReport {
    let mut step = Some(engine.start(request, Duration::ZERO, clock));
    loop {
        match step.expect("a run is under way") {
            Step::Done(report) => return *report,
            Step::Broken(message) => panic!("{message}"),
            Step::WaitsUntil(at) => {
                let questions = engine.questions();
                if questions.is_empty() {
                    thread::sleep(at.saturating_duration_since(Instant::now()));
                    step = engine.wake(clock);
                } else {
                    step = questions.into_iter().fold(None, |_, (call, question)| {
                        engine.answer(call, stored(&question), clock)
                    });
                }
            }
        }
    }
}

/// Answers a request with what was asked for.
fn echoed(request: &FetchRequest) -> Answer {
    let status = request.url.rsplit('/').next().and_then(|last| last.parse().ok());
    let body = request.body.clone().unwrap_or_default();
    let mut headers = request.headers.clone();
    headers.push(("x-method".into(), request.method.clone()));
    headers.push(("set-cookie".into(), "a=1".into()));
    headers.push(("set-cookie".into(), "b=2".into()));
    Answer::Fetched(Box::new(FetchResponse {
        status: status.unwrap_or(200),
        status_text: "Fine".into(),
        url: request.url.clone(),
        redirected: false,
        headers,
        body,
    }))
}

/// A store with three keys: `n` is 5, `s/a` and `s/b` are texts.
fn stored(question: &Question) -> Answer {
    const KEYS: [(&str, &str); 3] = [("n", "5"), ("s/a", "\"A\""), ("s/b", "\"B\"")];
    let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    match question {
        Question::KvGet { space: Space::Shared(_), .. } => Answer::Value(None),
        Question::Secret { name } if name == "known" => Answer::Value(Some("s3cr3t!!".into())),
        Question::Secret { .. } => Answer::Refused("not granted".into()),
        Question::Fetch(request) => echoed(request),
        Question::KvGet { key, .. } => {
            Answer::Value(KEYS.iter().find(|(name, _)| name == key).map(|found| owned(found).1))
        }
        Question::KvList { span, limit, .. } => {
            let mut items: Vec<_> =
                KEYS.iter().filter(|(key, _)| span.holds(key)).map(owned).collect();
            let more = items.len() > *limit as usize;
            items.truncate(*limit as usize);
            Answer::Page(Page { items, more })
        }
    }
}

fn lane_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let thread = thread::Builder::new().stack_size(8 << 20).spawn(work).expect("a thread");
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn short(limits: &mut RunLimits) {
    limits.cpu = Duration::from_millis(30);
    limits.wall = Duration::from_millis(300);
    limits.heap_bytes = 4 << 20;
}

#[test]
fn a_handler_gets_the_payload_and_its_result_is_kept() {
    body("return { doubled: payload.amount * 2 }").returns(r#"{"doubled":20}"#);
    handler("export default (p) => p.amount").returns("10");
    body("").returns("null");
    body("return () => 1").returns("null");
    body("await null; return sdk.events.current() === payload").returns("true");
}

#[test]
fn plain_code_runs_afresh_each_time_and_has_no_result() {
    let mut script = handler(
        "export default async function () {\nlet n = 0; n++; console.log(n); await null; \n}",
    );
    script.form = Form::Plain;
    for report in script.run_times(2) {
        assert_eq!(report.outcome.as_deref(), Ok("null"));
        assert_eq!(report.logs[0].message, "1");
    }
}

#[test]
fn module_state_stays_while_warm() {
    let results: Vec<_> = handler("let n = 0; export default () => ++n")
        .run_times(3)
        .into_iter()
        .map(|report| report.outcome.expect("success"))
        .collect();
    assert_eq!(results, ["1", "2", "3"]);
}

#[test]
fn the_context_has_the_documented_shape() {
    let expected = r#"{"id":"evt-1","source":"/tests","type":"order.paid","time":"1970-01-01T00:00:00.000Z","extensions":{"region":"eu"},"attempt":1,"maxAttempts":3,"replayed":false,"hop":2,"idempotencyKey":"03030303-0303-0303-0303-030303030303:01010101-0101-0101-0101-010101010101","subscription":{"id":"01010101-0101-0101-0101-010101010101","name":"sub"},"script":{"id":"02020202-0202-0202-0202-020202020202","name":"test","version":3},"runId":"04040404-0404-0404-0404-040404040404"}"#;
    body("return context").returns(expected);
    body("await null; return sdk.events.context()").returns(expected);
    let mut blind = handler("export default (p) => sdk.events.context().type");
    blind.takes_context = false;
    blind.returns(r#""order.paid""#);
}

#[test]
fn emits_are_collected_even_when_nobody_awaits_them() {
    let report = body(
        "sdk.events.emit('a.b', { n: 1 }); await sdk.events.emit('a.c', { n: 2 }, { id: 'x', subject: 's', delay: '30s' });",
    )
    .run();
    assert_eq!(report.outcome.as_deref(), Ok("null"));
    let [first, second] = report.emits.as_slice() else { panic!("{report:?}") };
    assert_eq!((first.event_type.as_str(), first.data.as_str()), ("a.b", r#"{"n":1}"#));
    assert_eq!((second.id.as_deref(), second.subject.as_deref()), (Some("x"), Some("s")));
    assert_eq!(second.delay, Some(Duration::from_secs(30)));
}

#[test]
fn a_refused_emit_ends_the_run_unless_it_is_caught() {
    for wrong in [
        "1, {}",
        "'a'",
        "'a', 1",
        "'', {}",
        "'a b', {}",
        "'a.*', {}",
        "'a', {}, { delay: 'soon' }",
        "'a', { x: 1n }",
        "'a', { toJSON() {} }",
        "'a', { s: '\\ud800' }",
    ] {
        body(&format!("await sdk.events.emit({wrong})")).fails(ErrorKind::EmitRejected, "emit");
        body(&format!("sdk.events.emit({wrong})")).fails(ErrorKind::EmitRejected, "emit");
        body(&format!("try {{ await sdk.events.emit({wrong}) }} catch {{}}")).returns("null");
    }
    let report = body("for (let i = 0; i < 101; i++) await sdk.events.emit('a', {})")
        .fails(ErrorKind::EmitRejected, "100");
    assert_eq!(report.emits.len(), 100);
}

#[test]
fn passing_the_loop_limits_fails_the_run_whatever_it_catches() {
    let mut script = body(
        "await sdk.events.emit('a', {}); try { await sdk.events.emit('a', {}) } catch {} return 1",
    );
    script.loop_emits = 1;
    script.fails(ErrorKind::HopLimit, "a -> b -> a");
}

#[test]
fn thrown_values_become_errors_of_their_kind() {
    body("throw new Error('boom')").fails(ErrorKind::Exception, "boom");
    body("null.x").fails(ErrorKind::Exception, "TypeError: ");
    body("throw null").fails(ErrorKind::Exception, "threw null");
    body("throw 'text'").fails(ErrorKind::Exception, "text");
    body("throw { code: 7 }").fails(ErrorKind::Exception, "{ code: 7 }");
    body("throw { get message() { throw 1 }, toString: null, [Symbol.toPrimitive]() { throw 2 } }")
        .fails(ErrorKind::Exception, "threw");
    body("throw new sdk.PermanentError('no such user')")
        .fails(ErrorKind::Permanent, "no such user");
    body("class Mine extends sdk.PermanentError {} throw new Mine('x')")
        .fails(ErrorKind::Permanent, "x");
    body("throw Object.create(sdk.PermanentError.prototype)").fails(ErrorKind::Exception, "");
    let report = body("throw new sdk.RetryError('busy', { after: '30s' })")
        .fails(ErrorKind::Exception, "busy");
    assert_eq!(report.retry_after, Some(Duration::from_secs(30)));
    body("throw new sdk.RetryError('busy', { after: 'soon' })")
        .fails(ErrorKind::Exception, "expected milliseconds");
    handler("export default () => { throw new Error('sync') }").fails(ErrorKind::Exception, "sync");
    body("Promise.reject(new Error('lost'))")
        .fails(ErrorKind::Exception, "unhandled rejection: lost");
    body("const p = Promise.reject(1); await null; try { await p } catch {} return 1").returns("1");
}

#[test]
fn stacks_name_the_file_and_leave_out_our_own_frames() {
    let report = body("const f = () => { throw new Error('deep') }; f()").run();
    let stack = report.outcome.expect_err("it throws").stack.expect("a stack");
    assert!(stack.contains("test.js:2:"), "{stack}");
    let report =
        body("const e = new Error('top', { cause: new TypeError('root') }); throw e").run();
    let stack = report.outcome.expect_err("it throws").stack.expect("a stack");
    assert!(stack.contains("caused by: TypeError: root"), "{stack}");
    let report = body("[1].map(() => sdk.events.emit()); await sdk.events.emit()").run();
    assert!(!format!("{report:?}").contains("tripline:"), "{report:?}");
}

#[test]
fn sources_that_do_not_load_are_compile_errors() {
    handler("export default 7").fails(ErrorKind::Compile, "must be a function");
    handler("export default (").fails(ErrorKind::Compile, "SyntaxError");
    handler("nope(); export default () => 1").fails(ErrorKind::Compile, "nope");
    handler("await sdk.events.emit('a', {}); export default () => 1")
        .fails(ErrorKind::Compile, "only while an event is handled");
    handler("sdk.events.current(); export default () => 1")
        .fails(ErrorKind::Compile, "only while an event is handled");
    handler("import x from 'x'; export default () => 1").fails(ErrorKind::Compile, "cannot import");
    handler("await new Promise(() => {}); export default () => 1")
        .fails(ErrorKind::Compile, "never finishes loading");
    handler("for (;;) {} export default () => 1").limits(short).fails(ErrorKind::Timeout, "CPU");
}

#[test]
fn endless_work_is_stopped_whatever_it_catches() {
    for code in [
        "for (;;) {}",
        "for (;;) { try { for (;;) {} } catch {} finally { continue } }",
        "try { for (;;) {} } finally { for (;;) {} }",
        "const spin = () => Promise.resolve().then(spin); await spin()",
        "const spin = async () => { for (;;) await null }; spin(); await new Promise(() => {})",
        "return { toJSON() { for (;;) {} } }",
        "throw Object.defineProperty(new Error(), 'message', { get() { for (;;) {} } })",
        "throw Object.defineProperty(new Error(), 'stack', { get() { for (;;) {} } })",
        "Error.prepareStackTrace = () => { for (;;) {} }; for (;;) { try { null.x } catch {} }",
        "const keep = []; try { for (;;) keep.push(new Array(100).fill(1)) } catch {} for (;;) { try { for (;;) {} } catch {} }",
    ] {
        let report = body(code).limits(short).run();
        let kind = report.outcome.expect_err(code).kind;
        assert!(matches!(kind, ErrorKind::Timeout | ErrorKind::OutOfMemory), "{code}: {kind:?}");
        assert!(report.duration < Duration::from_secs(2), "{code}: {:?}", report.duration);
    }
}

#[test]
fn memory_is_limited_and_its_exhaustion_cannot_be_hidden() {
    for code in [
        "const a = []; for (;;) a.push(new Array(1000).fill(7))",
        "try { 'x'.repeat(1 << 28) + 'y' } catch {} return 1",
        "try { new ArrayBuffer(1 << 30) } catch {} return 1",
        "let s = 'x'; for (;;) { s += s; s.charCodeAt(1) }",
        "const m = new Map(); for (let i = 0; ; i++) m.set(i, {})",
    ] {
        body(code)
            .limits(|limits| limits.heap_bytes = 4 << 20)
            .fails(ErrorKind::OutOfMemory, "4194304 bytes");
    }
}

#[test]
fn deep_recursion_is_a_stack_overflow_and_can_be_caught() {
    body("const f = () => f() + 1; f()").fails(ErrorKind::StackOverflow, "Maximum call stack");
    body("const f = () => f() + 1; try { f() } catch { return 1 }").returns("1");
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    body("return 1").on(&deep).fails(ErrorKind::StackOverflow, "");
    body("let a = []; for (let i = 0; i < 1e5; i++) a = [a]; return a")
        .fails(ErrorKind::StackOverflow, "");
    body("let a = []; for (let i = 0; i < 120; i++) a = [a]; return a")
        .fails(ErrorKind::Exception, "deeper than 100");
}

#[test]
fn a_tripped_limit_costs_only_its_own_run() {
    let code = "let runs = 0; export default (p) => { runs++; if (sdk.events.context() && runs === 1) for (;;) {} return runs }";
    let reports = handler(code).limits(short).run_times(2);
    assert_eq!(reports[0].outcome.as_ref().map_err(|e| e.kind), Err(ErrorKind::Timeout));
    // A fresh runtime counts from the start again.
    assert_eq!(reports[1].outcome.as_ref().map_err(|e| e.kind), Err(ErrorKind::Timeout));
}

#[test]
fn timers_wait_and_the_wall_clock_is_limited() {
    body("await new Promise((done) => setTimeout(done, 5)); return 1").returns("1");
    body("return await new Promise((done) => setTimeout(done, 5, 'args'))").returns(r#""args""#);
    body("const id = setTimeout(() => console.log('no'), 1); clearTimeout(id); await new Promise((d) => setTimeout(d, 5))").returns("null");
    body("await new Promise((d) => setTimeout(d, 1e9))")
        .limits(short)
        .fails(ErrorKind::Timeout, "on the clock");
    body("await new Promise((d) => setTimeout(() => { throw new Error('in a timer') }, 1))")
        .fails(ErrorKind::Exception, "in a timer");
    let report = body("setTimeout(() => console.log('late'), 1)").run();
    assert!(report.logs.is_empty() && report.outcome.is_ok());
    body("await new Promise(() => {})").fails(ErrorKind::Exception, "can never settle");
    body("setTimeout('code')").fails(ErrorKind::Exception, "expected a function");
}

#[test]
fn timers_of_one_run_are_gone_in_the_next() {
    let code = "let n = 0; export default async () => { if (n++ === 0) { setTimeout(() => { throw 1 }, 1); return } await new Promise((d) => setTimeout(d, 10)) }";
    for report in handler(code).run_times(2) {
        assert_eq!(report.outcome.as_deref(), Ok("null"));
    }
}

#[test]
fn the_console_is_kept_with_levels() {
    let report = body("console.log('a', 1, null, { b: [1, { c: 2 }] }); console.debug('d'); console.info('i'); console.warn('w'); console.error(new TypeError('bad'))").run();
    let lines: Vec<_> =
        report.logs.iter().map(|line| (line.level, line.message.as_str())).collect();
    assert_eq!(lines[0], (LogLevel::Info, "a 1 null { b: [ 1, { c: 2 } ] }"));
    assert_eq!(
        lines[1..4].iter().map(|line| line.0).collect::<Vec<_>>(),
        [LogLevel::Debug, LogLevel::Info, LogLevel::Warn]
    );
    assert!(lines[4].1.starts_with("TypeError: bad\n"), "{}", lines[4].1);
    assert_eq!(lines[4].0, LogLevel::Error);
}

#[test]
fn the_inspector_survives_anything() {
    for (value, expected) in [
        ("(() => { const a = {}; a.a = a; return a })()", "{ a: [circular] }"),
        ("new Map([[1, { a: 's' }]])", "Map(1) { 1 => { a: \"s\" } }"),
        ("new Set([1, 2])", "Set(2) { 1, 2 }"),
        ("{ get x() { throw 1 } }", "{ x: [getter] }"),
        ("[undefined, null, NaN, -0, 10n]", "[ undefined, null, NaN, -0, 10n ]"),
        ("[[[[[1]]]]]", "[ [ [ [ [Array] ] ] ] ]"),
        ("new (class Point { x = 1 })()", "Point { x: 1 }"),
        ("Object.create(null)", "[null prototype] {}"),
        ("new Date(0)", "1970-01-01T00:00:00.000Z"),
        ("Symbol('s')", "Symbol(s)"),
        ("function f() {}", "[function f]"),
        ("new Uint8Array([1, 2])", "Uint8Array(2) [ 1, 2 ]"),
    ] {
        let report = body(&format!("console.log({value})")).run();
        assert_eq!(
            report.logs.first().map(|line| line.message.as_str()),
            Some(expected),
            "{value}: {report:?}"
        );
    }
    let report =
        body("console.log(new Proxy({}, { ownKeys() { throw new Error('trap') } }))").run();
    assert_eq!(report.outcome.map_err(|error| error.message), Err("trap".into()));
}

#[test]
fn results_and_logs_are_bounded() {
    body("return 'x'.repeat(2000)")
        .limits(|limits| limits.result_bytes = 1_000)
        .fails(ErrorKind::Exception, "limit is 1000");
    let report = body("for (let i = 0; i < 1e4; i++) console.log('x'.repeat(100))").run();
    let bytes: usize = report.logs.iter().map(|line| line.message.len()).sum();
    assert!(bytes <= 64 << 10);
    assert!(report.logs.last().is_some_and(|line| line.message.contains("log cut")));
    assert!(report.clone().checked(&RunLimits::default()).outcome.is_ok());
    let report = body("throw new Error('x'.repeat(100_000))").run();
    assert!(
        report
            .clone()
            .checked(&RunLimits::default())
            .outcome
            .is_err_and(|error| error.kind == ErrorKind::Exception)
    );
}

#[test]
fn built_in_loops_over_absurd_lengths_are_refused() {
    for code in [
        "const a = []; a.length = 2 ** 32 - 1; a.reverse()",
        "Array.prototype.join.call({ length: 2 ** 53 - 1 })",
        "String.raw({ raw: { length: 2 ** 53 - 1 } })",
        "[].concat.call(Object.assign([], { length: 2 ** 30 }))",
    ] {
        body(code).fails(ErrorKind::Exception, "over the sandbox's limit");
    }
    body("return [3, 1, 2].sort().reverse().concat([0]).join('-') + [1, [2, [3]]].flat(2).indexOf(3) + String.raw`a\\n${1}`")
        .returns(r#""3-2-1-02a\\n1""#);
}

#[test]
fn host_objects_cannot_be_changed() {
    body("try { sdk.events.emit = 1 } catch (e) { return e.name }").returns(r#""TypeError""#);
    body("try { sdk = 1 } catch (e) { return e.name }").returns(r#""TypeError""#);
    body("try { console.log = 1 } catch (e) { return e.name }").returns(r#""TypeError""#);
    body("try { context.subscription.id = 1 } catch (e) { return e.name }")
        .returns(r#""TypeError""#);
    body("try { sdk.PermanentError.prototype.name = 1 } catch (e) { return e.name }")
        .returns(r#""TypeError""#);
}

#[test]
fn poisoned_built_ins_do_not_reach_the_globals() {
    let poison = "Array.prototype.push = Array.prototype.join = Map.prototype.get = JSON.stringify = Promise.prototype.then = () => { throw new Error('poison') }; Object.defineProperty(Object.prototype, 'id', { get() { return 'polluted' } });";
    let report = body(&format!(
        "{poison} console.log('a', 1); sdk.events.emit('a.b', {{ ok: true }}); return 1"
    ))
    .run();
    assert_eq!(report.outcome.as_deref(), Ok("1"));
    assert_eq!(report.logs[0].message, "a 1");
    assert_eq!(report.emits[0].data, r#"{"ok":true}"#);
}

#[test]
fn payload_tricks_are_data() {
    body("return [Object.hasOwn(payload, '__proto__'), {}.polluted]")
        .on(r#"{"__proto__":{"polluted":1}}"#)
        .returns("[true,null]");
    body("return payload.n").on(r#"{"n":1e400}"#).returns("null");
    body("return payload.s.length").on(r#"{"s":"\ud800"}"#).returns("1");
    body("return payload").on(r#"{"s":"\u0000"}"#).fails(ErrorKind::Exception, "NUL");
}

#[test]
fn integers_beyond_doubles_leave_a_warning() {
    let warned = |data: &str| !body("").on(data).run().warnings.is_empty();
    assert!(warned(r#"{"n":9007199254740993}"#));
    assert!(warned(r#"[-123456789012345678901234567890]"#));
    assert!(!warned(r#"{"n":9007199254740992}"#));
    assert!(!warned(r#"{"n":"9007199254740993","x":0.12345678901234567890,"y":1e300}"#));
}

#[test]
fn the_web_parts_are_there() {
    body("return new TextDecoder().decode(new TextEncoder().encode('añ😀'))").returns(r#""añ😀""#);
    body("return Array.from(new TextEncoder().encode('é\\ud800'))")
        .returns("[195,169,239,191,189]");
    body("return atob(btoa('hello'))").returns(r#""hello""#);
    body("const a = { d: new Date(0), m: new Map([[1, [2]]]), e: new TypeError('x') }; a.self = a; const b = structuredClone(a); return [b !== a, b.self === b, b.d.getTime(), b.m.get(1)[0], b.e instanceof TypeError]")
        .returns("[true,true,0,2,true]");
    body("try { structuredClone(() => 1) } catch (e) { return e.name }")
        .returns(r#""DataCloneError""#);
    body("const u = new URL('/a b?x=1#h', 'https://user@example.com:8443'); u.searchParams.append('y', 'ü&'); return [u.href, u.port, u.searchParams.get('y'), [...u.searchParams].length]")
        .returns(r##"["https://user@example.com:8443/a%20b?x=1&y=%C3%BC%26#h","8443","ü&",2]"##);
    body("try { new URL('nope') } catch (e) { return e.name }").returns(r#""TypeError""#);
    body("return new URLSearchParams({ a: 1, b: 'x y' }).toString()").returns(r#""a=1&b=x+y""#);
    body("const c = new AbortController(); let n = 0; c.signal.addEventListener('abort', () => n++); c.abort(); c.abort(); return [n, c.signal.aborted, c.signal.reason.name]")
        .returns(r#"[1,true,"AbortError"]"#);
    body("queueMicrotask(() => console.log('micro')); await null; return typeof performance.now()")
        .returns(r#""number""#);
}

/// Vectors of FIPS 180-4 and RFC 4231 (test case 2).
#[test]
fn digests_and_hmac_are_those_of_the_standards() {
    const HEX: &str = "const hex = (buffer) => [...new Uint8Array(buffer)].map((b) => b.toString(16).padStart(2, '0')).join(''); const bytes = (text) => new TextEncoder().encode(text);";
    for (name, expected) in [
        ("SHA-1", "a9993e364706816aba3e25717850c26c9cd0d89d"),
        ("sha-256", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
        (
            "SHA-384",
            "cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed8086072ba1e7cc2358baeca134c825a7",
        ),
        (
            "SHA-512",
            "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
        ),
    ] {
        body(&format!("{HEX} return hex(await crypto.subtle.digest('{name}', bytes('abc')))"))
            .returns(&format!("\"{expected}\""));
    }
    body(&format!(
        "{HEX} const key = await crypto.subtle.importKey('raw', bytes('Jefe'), {{ name: 'HMAC', hash: 'SHA-256' }}, false, ['sign', 'verify']);
         const data = bytes('what do ya want for nothing?');
         const signature = await crypto.subtle.sign('HMAC', key, data);
         return [hex(signature), await crypto.subtle.verify('HMAC', key, signature, data), await crypto.subtle.verify('HMAC', key, signature, bytes('other')), await crypto.subtle.verify('HMAC', key, new Uint8Array(31), data)]"
    ))
    .returns(r#"["5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",true,false,false]"#);
}

#[test]
fn keys_do_only_what_they_are_for() {
    let refused = |code: &str, name: &str| {
        body(&format!("const hmac = {{ name: 'HMAC', hash: 'SHA-256' }}; const raw = new Uint8Array(9); try {{ {code} }} catch (e) {{ return e.name }}"))
            .returns(&format!("\"{name}\""));
    };
    refused("await crypto.subtle.digest('MD5', raw)", "NotSupportedError");
    refused("await crypto.subtle.digest('SHA-256', 'text')", "TypeError");
    refused("await crypto.subtle.importKey('jwk', raw, hmac, true, ['sign'])", "NotSupportedError");
    refused("await crypto.subtle.importKey('raw', raw, hmac, true, ['encrypt'])", "SyntaxError");
    refused(
        "await crypto.subtle.importKey('raw', new Uint8Array(0), hmac, true, ['sign'])",
        "DataError",
    );
    refused(
        "const key = await crypto.subtle.importKey('raw', raw, hmac, false, ['sign']); await crypto.subtle.exportKey('raw', key)",
        "InvalidAccessError",
    );
    refused(
        "const key = await crypto.subtle.importKey('raw', raw, hmac, false, ['sign']); await crypto.subtle.verify('HMAC', key, raw, raw)",
        "InvalidAccessError",
    );
    refused(
        "await crypto.subtle.sign('HMAC', { algorithm: { hash: { name: 'SHA-256' } }, usages: ['sign'] }, raw)",
        "TypeError",
    );
    refused("new CryptoKey()", "TypeError");
    refused("crypto.subtle.sign = 1", "TypeError");
    refused("crypto.getRandomValues(new Float64Array(1))", "TypeMismatchError");
    refused("crypto.getRandomValues(new Uint8Array(65537))", "QuotaExceededError");
}

#[test]
fn random_values_are_random() {
    body("const ids = Array.from({ length: 50 }, () => crypto.randomUUID()); return new Set(ids).size === 50 && ids.every((id) => /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/.test(id))").returns("true");
    body("const words = crypto.getRandomValues(new Uint32Array(64)); return words instanceof Uint32Array && new Set(words).size > 60").returns("true");
    body("const bytes = new Uint8Array(20); crypto.getRandomValues(bytes.subarray(10)); return [bytes.slice(0, 10).every((b) => b === 0), bytes.slice(10).some((b) => b !== 0)]").returns("[true,true]");
    body("const key = await crypto.subtle.generateKey({ name: 'HMAC', hash: 'SHA-512' }, true, ['sign']); return (await crypto.subtle.exportKey('raw', key)).byteLength").returns("128");
}

#[test]
fn signals_follow_others_and_listeners_hear_once() {
    body("const a = new AbortController(), b = new AbortController(); const any = AbortSignal.any([a.signal, b.signal]); let n = 0; const listener = () => n++; any.addEventListener('abort', listener); any.addEventListener('abort', listener); b.abort('late'); a.abort(); return [n, any.aborted, any.reason]")
        .returns(r#"[1,true,"late"]"#);
    body("try { AbortSignal.any([AbortSignal.abort(new Error('gone'))]).throwIfAborted() } catch (e) { return e.message }")
        .returns(r#""gone""#);
}

#[test]
fn a_query_beyond_measure_is_refused() {
    body("new URLSearchParams('a&'.repeat(200_000))")
        .fails(ErrorKind::Exception, "limit of 262144");
    body("new URL('https://example.com/' + 'a'.repeat(300_000))")
        .fails(ErrorKind::Exception, "limit of 262144");
}

#[test]
fn a_run_reads_the_store_and_its_own_writes() {
    body("return [await sdk.kv.get('n'), await sdk.kv.get('none')]").returns("[5,null]");
    body("sdk.kv.set('n', { a: 1 }); return await sdk.kv.get('n')").returns(r#"{"a":1}"#);
    body("await sdk.kv.remove('n'); return await sdk.kv.get('n') === undefined").returns("true");
    body("await sdk.kv.set('s/c', 'C'); await sdk.kv.remove('s/a'); return (await sdk.kv.list({ prefix: 's/' })).map((i) => i.key + i.value)")
        .returns(r#"["s/bB","s/cC"]"#);
    body("await sdk.kv.remove('s/a'); return await sdk.kv.list({ prefix: 's/', limit: 1 })")
        .returns(r#"[{"key":"s/b","value":"B"}]"#);
    body("return await sdk.kv.list({ after: 'n', limit: 1 })")
        .returns(r#"[{"key":"s/a","value":"A"}]"#);
    body("const rates = sdk.kv.shared('rates'); await rates.set('n', 1); return [await rates.get('n'), await sdk.kv.get('n')]")
        .returns("[1,5]");
}

#[test]
fn writes_are_collected_as_the_last_one_to_each_key() {
    let report = body("sdk.kv.set('a', 1, { ttl: '10m' }); await sdk.kv.set('a', 2); await sdk.kv.remove('b'); await sdk.kv.increment('n', 2); await sdk.kv.shared('x').set('a', null)").run();
    let own = |key: &str, value: Option<&str>, ttl| KvWrite {
        space: Space::Own,
        key: key.into(),
        value: value.map(Into::into),
        ttl,
    };
    let mut shared = own("a", Some("null"), Ttl::Forever);
    shared.space = Space::Shared("x".into());
    let expected = [
        own("a", Some("2"), Ttl::Forever),
        own("b", None, Ttl::Forever),
        own("n", Some("7"), Ttl::Keep),
        shared,
    ];
    assert_eq!(report.kv, expected);
    assert!(report.clone().checked(&RunLimits::default()).outcome.is_ok());
    let kept = body("await sdk.kv.set('n', 1, { ttl: 1000 }); await sdk.kv.increment('n')").run();
    assert_eq!(kept.kv, [own("n", Some("2"), Ttl::For(Duration::from_secs(1)))]);
}

#[test]
fn increments_side_by_side_add_up() {
    body("const all = await Promise.all([1, 2, 3].map((by) => sdk.kv.increment('n', by))); return [all, await sdk.kv.get('n')]")
        .returns("[[6,8,11],11]");
    body("sdk.kv.increment('new'); await sdk.kv.increment('new'); return sdk.kv.get('new')")
        .returns("2");
    body("await sdk.kv.increment('s/a')").fails(ErrorKind::Exception, "no number");
    body("await sdk.kv.increment('n', NaN)").fails(ErrorKind::Exception, "expected a number");
}

#[test]
fn what_cannot_be_a_key_or_a_value_is_refused_where_it_stands() {
    for (code, said) in [
        ("sdk.kv.get('')", "a key has 1 to"),
        ("sdk.kv.get('a\\n')", "a key has 1 to"),
        ("sdk.kv.get(7)", "expected the key as a text"),
        ("sdk.kv.set('x'.repeat(513), 1)", "a key has 1 to"),
        ("sdk.kv.set('a', undefined)", "no JSON"),
        ("sdk.kv.set('a', () => 1)", "no JSON"),
        ("sdk.kv.set('a', '\\ud800')", "surrogate"),
        ("sdk.kv.set('a', 'x'.repeat(300_000))", "the limit is 262144"),
        ("sdk.kv.set('a', 1, { ttl: 'soon' })", "expected milliseconds"),
        ("sdk.kv.list({ limit: 0 })", "1 to 1000"),
        ("sdk.kv.list({ limit: 1.5 })", "1 to 1000"),
        ("sdk.kv.shared('Not a name')", "a namespace is"),
        (
            "(async () => { for (let i = 0; i < 101; i++) await sdk.kv.set(`k${i}`, i) })()",
            "100 keys",
        ),
        (
            "(async () => { for (let i = 0; i < 20; i++) await sdk.kv.set(`k${i}`, 'x'.repeat(250_000)) })()",
            "bytes of values",
        ),
        ("Promise.all(Array.from({ length: 5 }, () => sdk.kv.list()))", "4 lists are open"),
        (
            "Promise.all(Array.from({ length: 65 }, (_, i) => sdk.kv.get(`k${i}`)))",
            "64 calls are open",
        ),
        (
            "(async () => { for (let i = 0; i < 1001; i++) await sdk.kv.get(`k${i}`) })()",
            "1000 calls",
        ),
    ] {
        body(&format!("await {code}")).fails(ErrorKind::Exception, said);
    }
    handler("sdk.kv.set('a', 1).catch((e) => console.log(e.message)); export default () => 1")
        .returns("1");
    assert!(handler("let kept; sdk.kv.set('a', 1).catch((e) => { kept = e.message }); export default () => kept").run().kv.is_empty());
}

#[test]
fn a_secret_is_a_text_or_a_rejection() {
    body("return await sdk.secrets.get('known')").returns(r#""s3cr3t!!""#);
    body("await sdk.secrets.get('other')").fails(ErrorKind::Exception, "not granted");
    body("await sdk.secrets.get('../x')").fails(ErrorKind::Exception, "a secret's name has");
    body("await sdk.secrets.get(7)").fails(ErrorKind::Exception, "expected a name");
    body("try { sdk.secrets.get = 1 } catch (e) { return e.name }").returns(r#""TypeError""#);
}

#[test]
fn fetch_speaks_as_the_standard_does() {
    body("const r = await fetch('https://a.example/x', { method: 'post', body: JSON.stringify({ a: 'ü' }), headers: { 'X-One': ' 1 ', accept: 'text/plain' } }); return [r.ok, r.status, r.statusText, r.url, r.type, r.headers.get('x-one'), r.headers.get('Content-Type'), r.headers.get('x-method'), r.headers.getSetCookie(), await r.json(), r.bodyUsed]")
        .returns(r#"[true,200,"Fine","https://a.example/x","basic","1","text/plain;charset=UTF-8","POST",["a=1","b=2"],{"a":"ü"},true]"#);
    body("const r = await fetch(new Request('https://a.example/404', { method: 'PUT', body: new URLSearchParams({ q: 'a b' }) })); const copy = r.clone(); return [r.ok, r.status, await r.text(), (await copy.arrayBuffer()).byteLength, r.headers.get('content-type')]")
        .returns(r#"[false,404,"q=a+b",5,"application/x-www-form-urlencoded;charset=UTF-8"]"#);
    body("const r = await fetch('https://a.example/', { method: 'POST', body: new Uint8Array([1, 2, 250]) }); return Array.from(await r.bytes())")
        .returns("[1,2,250]");
    body("return await (await fetch('https://a.example/204')).text() === ''").returns("true");
    body("const h = new Headers([['b', '1'], ['A', '2'], ['b', '3']]); h.append('c', 'x'); h.delete('c'); return [[...h], h.has('B'), h.get('none')]")
        .returns(r#"[[["a","2"],["b","1, 3"]],true,null]"#);
    body("const r = Response.json({ a: 1 }, { status: 201 }); return [r.status, r.headers.get('content-type'), await r.json()]")
        .returns(r#"[201,"application/json",{"a":1}]"#);
    body("const r = await fetch('https://a.example/', { method: 'POST', body: 'x' }); await r.text(); await r.text()")
        .fails(ErrorKind::Exception, "read already");
}

#[test]
fn a_fetch_that_cannot_be_is_rejected() {
    for (code, said) in [
        ("fetch('/relative')", "no absolute URL"),
        ("fetch('https://user:pass@a.example/')", "header Authorization"),
        ("fetch('https://a.example/', { method: 'TRACE' })", "as method"),
        ("fetch('https://a.example/', { body: 'x' })", "GET has no body"),
        ("fetch('https://a.example/', { method: 'POST', body: {} })", "expected the body"),
        ("fetch('https://a.example/', { headers: { 'a b': '1' } })", "no name of a header"),
        ("fetch('https://a.example/', { headers: { a: '1\\r\\nb: 2' } })", "no value of a header"),
        ("fetch('https://a.example/' + 'x'.repeat(9000))", "a URL of"),
        ("fetch('https://a.example/', { method: 'POST', body: 'x'.repeat(2e6) })", "a body of"),
        ("fetch('https://a.example/', { signal: AbortSignal.abort() })", "aborted"),
        (
            "Promise.all(Array.from({ length: 7 }, () => fetch('https://a.example/')))",
            "6 fetches are open",
        ),
        (
            "(async () => { for (let i = 0; i < 21; i++) await fetch('https://a.example/') })()",
            "20 times",
        ),
    ] {
        body(&format!("await {code}")).fails(ErrorKind::Exception, said);
    }
}

#[test]
fn a_question_left_open_ends_with_its_run() {
    let code = "let n = 0; export default async () => { if (n++ === 0) { sdk.kv.get('n').then(() => { throw new Error('late') }); return } return await sdk.kv.get('n') }";
    let results: Vec<_> =
        handler(code).run_times(2).into_iter().map(|report| report.outcome).collect();
    assert_eq!(results, [Ok("null".into()), Ok("5".into())]);
}

#[test]
fn the_date_is_the_hosts_and_still_a_date() {
    body("const d = new Date(); return [d instanceof Date, Math.abs(d - Date.now()) < 1000, new Date(0).toISOString(), typeof Date(), Date.name, Date.length, new Date(2020, 0).getFullYear(), d.constructor === Date]")
        .returns(r#"[true,true,"1970-01-01T00:00:00.000Z","string","Date",7,2020,true]"#);
    body("class D extends Date { x() { return this.getTime() } } return new D(5).x()").returns("5");
    body("const r = Array.from({ length: 100 }, Math.random); return r.every((x) => x >= 0 && x < 1) && new Set(r).size > 90").returns("true");
}

#[test]
fn nothing_of_the_machine_is_there() {
    body("return ['require', 'process', 'std', 'os', 'print', 'Deno', 'scriptArgs'].filter((name) => name in globalThis)").returns("[]");
    for module in ["os", "test.js", "tripline:core", "tripline:inspect"] {
        body(&format!("await import('{module}')")).fails(ErrorKind::Exception, "cannot import");
    }
    body("return typeof (function () {}).constructor('return globalThis.process')()")
        .returns(r#""undefined""#);
}

#[test]
fn any_heap_limit_ends_in_a_report() {
    lane_thread(|| {
        for step in 0..120 {
            let script = body("const a = []; for (;;) { try { a.push({ s: 'x'.repeat(50), e: new Error('e') }); console.log(a) } catch {} }")
                .limits(|limits| {
                    short(limits);
                    limits.heap_bytes = 1_000 + step * 3_001;
                });
            let report = run_here(&script.open(), &script.request(), |_| Answer::Value(None))
                .expect("a runtime");
            assert!(report.outcome.is_err());
        }
    });
}

#[path = "hostile.rs"]
pub(super) mod hostile;
