use std::{thread, time::Duration};

use super::*;
use crate::{
    domain::{
        DataEncoding, Envelope, ErrorKind, Event, EventId, Lineage, Millis, RunId, ScriptId, Seq,
        SubscriptionId,
    },
    sandbox::{IdempotencyKey, Nobody, Run, RunFacts, RunKey, protocol::RunRequest, run_here},
};

fn ts(source: &str) -> Result<Program, CompileError> {
    Program::compile("charge", Language::Typescript, source)
}

/// Compiles, runs on a payload of `{"n":2}`, and brings the positions home.
fn run(source: &str) -> RunReport {
    run_on(source, "a.b", "{\"n\":2}")
}

fn run_on(source: &str, event_type: &str, data: &str) -> RunReport {
    run_program(&ts(source).expect("a program"), event_type, data)
}

fn run_program(program: &Program, event_type: &str, data: &str) -> RunReport {
    let event = Event {
        seq: Seq(1),
        uid: EventId::numbered(Millis(1), Seq(1), 1),
        accepted_at: Millis(1),
        envelope: Envelope {
            id: None,
            source: "/tests".into(),
            event_type: event_type.into(),
            subject: None,
            time: None,
            datacontenttype: None,
            dataschema: None,
            extensions: None,
            encoding: DataEncoding::Json,
        },
        data: bytes::Bytes::copy_from_slice(data.as_bytes()),
        lineage: Lineage::default(),
    };
    let run = Run {
        key: RunKey(1),
        event: Arc::new(event),
        data: None,
        facts: RunFacts {
            run_id: RunId::fresh(),
            attempt: 1,
            max_attempts: 3,
            replayed: false,
            idempotency_key: IdempotencyKey::OfDelivery,
        },
        emits_within_loop_limits: 10,
        loop_message: None,
        alone: false,
        record: false,
        tape: None,
    };
    let owner = ContextOwner {
        subscription: SubscriptionId::fresh(),
        subscription_name: "sub".into(),
        script: ScriptId::fresh(),
        script_name: "charge".into(),
        script_version: 1,
    };
    let limits = RunLimits { wall: Duration::from_secs(2), ..RunLimits::default() };
    thread::scope(|scope| {
        let open = program.open(ContextId(1), limits, &owner);
        let request = RunRequest::of(ContextId(1), &run);
        let thread = thread::Builder::new().stack_size(8 << 20);
        let mut report = thread
            .spawn_scoped(scope, move || {
                run_here(&open, &request, |question| Nobody::answers(&question)).expect("a runtime")
            })
            .expect("a thread")
            .join()
            .expect("no panic");
        program.locate(&mut report);
        report
    })
}

#[track_caller]
fn returns(source: &str, expected: &str) {
    assert_eq!(run(source).outcome.as_deref(), Ok(expected));
}

#[track_caller]
fn fails_at(source: &str, position: &str) {
    let error = run(source).outcome.expect_err("it throws");
    let stack = error.stack.unwrap_or_default();
    assert!(stack.lines().next().is_some_and(|line| line.contains(position)), "{stack}");
}

#[test]
fn types_are_stripped() {
    returns(
        "interface P { n: number }\nenum Size { S = 1, L }\nclass C { constructor(private x: number) {} get() { return this.x as number } }\n\
         export default async function <T extends P>(payload: T, _?: unknown): Promise<number> {\n  return new C(payload!.n satisfies number).get() + Size.L;\n}",
        "4",
    );
    returns("type A = string; export default (p: any) => p.n", "2");
    returns(
        "import type { X } from './x'; import { Y } from './y'; export default (p: X & Y) => 1",
        "1",
    );
    returns("declare const z: number; export default (): number => 1", "1");
    returns("namespace N { export const x = 1 } export default () => N.x", "1");
}

#[test]
fn the_form_follows_from_the_syntax() {
    assert_eq!(ts("console.log(1)").expect("plain").form(), Form::Plain);
    assert_eq!(
        ts("// export default\nconst s = 'export default'").expect("plain").form(),
        Form::Plain
    );
    assert_eq!(ts("export default () => 1").expect("handler").form(), Form::Handler);
    assert_eq!(
        ts("const h = () => 1; export { h as default }").expect("handler").form(),
        Form::Handler
    );
    let report = run("const n: number = sdk.events.current().n\nawait null\nconsole.log('n', n)");
    assert_eq!(report.outcome.as_deref(), Ok("null"));
    assert_eq!(report.logs[0].message, "n 2");
}

#[test]
fn only_handlers_that_can_look_get_the_context() {
    let takes = |source: &str| ts(source).expect("a program").takes_context;
    assert!(!takes("export default (p) => p"));
    assert!(!takes("export default async function ({ n }: any) { return n }"));
    assert!(takes("export default (p, c) => p"));
    assert!(takes("export default (...all) => all"));
    assert!(takes("export default function () { return arguments[1] }"));
    assert!(takes("const h = (p, c) => c; export default h"));
    assert!(takes("export default class {}"));
}

#[test]
fn errors_point_into_the_authors_source() {
    fails_at(
        "interface A {\n  x: number\n}\n\nexport default (p: any) => {\n  const a: A = p;\n  throw new Error('here');\n}",
        "charge.ts:7:",
    );
    fails_at(
        "type A = 1;\n\n\nconst f = () => {\n  throw new Error('plain')\n}\nf()",
        "charge.ts:5:",
    );
    fails_at("enum E { A,\n B,\n C }\nthrow new Error('plain')", "charge.ts:4:");
    let report = run(
        "interface A {\n x: 1 }\n\nexport default () => {\n console.error(new Error('logged'))\n}",
    );
    assert!(report.logs[0].message.contains("charge.ts:5:"), "{:?}", report.logs);
    let error = run("type A = 1\n\nexport default 7").outcome.expect_err("no function");
    assert_eq!(error.kind, ErrorKind::Compile);
}

#[test]
fn a_located_stack_gives_a_code_frame() {
    let source = "type A = 1;\nexport default () => {\n  throw new Error('x');\n}";
    let stack = run(source).outcome.expect_err("it throws").stack.expect("a stack");
    let frame = ts(source).expect("a program").frame_of(&stack).expect("a frame");
    assert!(frame.contains(">    3 |   throw new Error('x');"), "{frame}");
}

#[test]
fn what_does_not_compile_says_where() {
    let error = ts("const a = 1;\nexport default (").expect_err("half a source");
    assert_eq!((error.file.as_str(), error.line), ("charge.ts", 2));
    assert!(error.frame.contains(">    2 | export default ("), "{}", error.frame);
    let error = ts("let x = 1; let x = 2").expect_err("declared twice");
    assert_eq!((error.line, error.column), (1, 5));
    for (source, part) in [
        ("import fs from 'fs'; fs.x()", "cannot import `fs`"),
        ("export * from 'x'", "cannot re-export"),
        ("export { a } from 'x'", "cannot re-export"),
        ("export const a = 1", "no `export default`"),
        ("a\0b", "NUL"),
        ("return 1", ""),
    ] {
        let error = ts(source).expect_err(source);
        assert!(error.message.contains(part), "{source}: {error}");
    }
    assert!(Program::compile("x", Language::Javascript, "const a: number = 1").is_err());
}

#[test]
fn hostile_sources_do_not_take_the_compiler_down() {
    // The whole length was seen to pass too; an eighth of it keeps the test short.
    let most = SOURCE_BYTES_MAX / 8;
    for source in [
        "(".repeat(most),
        "[".repeat(300) + &"]".repeat(300),
        "x".repeat(SOURCE_BYTES_MAX + 1),
        "!".repeat(most) + "1",
        "a=>".repeat(most / 3) + "1",
        "a=".repeat(most / 2) + "1",
        "1?".repeat(most / 4) + "1" + &":1".repeat(most / 4),
        "if(1)".repeat(most / 5) + ";",
        "1+".repeat(most / 2) + "1",
        "a.".repeat(most / 2) + "b",
        "x:".to_owned() + &(0..5_000).map(|i| format!("l{i}:")).collect::<String>() + ";",
        "type T = ".to_owned() + &"keyof ".repeat(most / 6) + "1",
    ] {
        // Whether it compiles does not matter; that it comes back does.
        let _ = ts(&source);
    }
}

#[test]
fn names_the_sandbox_lacks_are_warned_about() {
    let program = ts("type T = Buffer;\nconst fs = require('fs');\nexport default async () => {\n  await axios(process.env.URL);\n  typo();\n  setTimeout(() => sdk.events.current(), 1);\n}").expect("a program");
    let warnings: Vec<_> =
        program.warnings().iter().map(|w| (w.line, w.message.as_str())).collect();
    assert_eq!(warnings.len(), 4, "{warnings:?}");
    assert_eq!(
        warnings[0],
        (
            2,
            "`require` is not there: a script imports modules of the server: `import … from 'lib/…'`"
        )
    );
    assert!(warnings[1].1.starts_with("`axios`") && warnings[2].1.starts_with("`process`"));
    assert_eq!(warnings[3], (5, "`typo` is not defined"));
    assert!(
        ts("export default (p) => structuredClone(new Map([[p, undefined]]))")
            .expect("a program")
            .warnings()
            .is_empty()
    );
}

#[test]
fn file_names_are_safe_to_find() {
    assert_eq!(file_name("charge card (v2):x", Language::Typescript), "charge-card--v2--x.ts");
    assert_eq!(file_name("lib/money.ts", Language::Typescript), "lib/money.ts");
    assert_eq!(file_name("", Language::Javascript), "script.js");
}

/// A code block of the guide.
#[derive(Default)]
struct Block {
    /// It is a module of this name.
    module: Option<String>,
    /// What it runs on, and what it gives.
    on: String,
    gives: String,
    source: String,
}

fn guide() -> Vec<Block> {
    let text = include_str!("../../../docs/scripts.md");
    let (mut block, mut blocks) = (Block::default(), Vec::new());
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let comment = |name: &str| {
            line.strip_prefix(&format!("<!-- {name}: ")).and_then(|rest| rest.strip_suffix(" -->"))
        };
        if let Some(value) = comment("on") {
            block.on = value.to_owned();
        } else if let Some(value) = comment("gives") {
            block.gives = value.to_owned();
        } else if let Some(name) = comment("module") {
            block.module = Some(name.to_owned());
        } else if line == "```ts" {
            let source: Vec<_> = lines.by_ref().take_while(|line| *line != "```").collect();
            block.source = source.join("\n");
            blocks.push(std::mem::take(&mut block));
        }
    }
    blocks
}

#[test]
fn every_example_of_the_guide_does_what_it_says() {
    let blocks = guide();
    assert!(blocks.len() >= 12, "{}", blocks.len());
    let mut modules = std::collections::HashMap::new();
    for Block { module, on, gives, source } in blocks {
        if let Some(name) = module {
            let unit = Unit::module(&name, Language::Typescript, &source).expect("a module");
            modules.insert(name, Arc::new(unit));
            continue;
        }
        let mut linker = Linker::new(
            Unit::script("charge", Language::Typescript, &source)
                .unwrap_or_else(|error| panic!("{error}\n{}", error.frame)),
        );
        while let Some(wanted) = linker.wanted().expect("an import") {
            let unit = Arc::clone(&modules[&wanted.name]);
            linker.provide(wanted, unit).expect("it fits");
        }
        let program = linker.link().unwrap_or_else(|error| panic!("{error}\n{}", error.frame));
        assert!(program.warnings().is_empty(), "{:?} {source}", program.warnings());
        let given = match run_program(&program, "shop.order.created", &on).outcome {
            Ok(result) => result,
            Err(error) => error.kind.as_str().to_owned(),
        };
        assert_eq!(given, gives, "{source}");
    }
}

/// Names that `sdk.d.ts` declares as values at its top level.
fn declared() -> Vec<&'static str> {
    let values = ["declare class ", "declare const ", "declare function ", "declare namespace "];
    let name = |line: &'static str| {
        let rest = values.iter().find_map(|start| line.strip_prefix(start))?;
        rest.split(|c: char| !c.is_alphanumeric()).next()
    };
    crate::sandbox::SDK_TYPES.lines().filter_map(name).collect()
}

#[test]
fn what_the_types_declare_is_there_and_passes_the_lint() {
    let names = declared();
    assert!(names.len() > 15, "{names:?}");
    let list = names.join(", ");
    let source = format!("export default () => [{list}].filter((value) => value === undefined)");
    assert!(ts(&source).expect("a program").warnings().is_empty());
    returns(&source, "[]");
}

#[test]
fn every_global_that_the_lint_lets_pass_is_there() {
    let names: Vec<_> = lint::HERE
        .iter()
        .filter(|name| **name != "arguments")
        .map(|name| format!("'{name}'"))
        .collect();
    returns(
        &format!(
            "export default () => [{}].filter((name) => !(name in globalThis))",
            names.join(",")
        ),
        "[]",
    );
    let names: Vec<_> = lint::ELSEWHERE.iter().map(|(name, _)| format!("'{name}'")).collect();
    returns(
        &format!("export default () => [{}].filter((name) => name in globalThis)", names.join(",")),
        "[]",
    );
}
