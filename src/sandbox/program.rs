//! Programs: what a script's source becomes before it can run.
//!
//! TypeScript is stripped, the form decided from the syntax tree, and a map kept from positions in
//! the generated code to those in the author's source, so that every error names the line the
//! author wrote. Pure: the same source gives the same program, on any thread.

mod link;
mod lint;
mod positions;

use std::{fmt, path::Path, sync::Arc};

use oxc_allocator::{Allocator, TakeIn as _};
use oxc_ast::ast::{
    ExportDefaultDeclarationKind, FormalParameters, ImportDeclarationSpecifier, Statement,
};
use oxc_codegen::{Codegen, CodegenOptions};
use oxc_ecmascript::BoundNames;
use oxc_parser::Parser;
use oxc_semantic::SemanticBuilder;
use oxc_span::{SourceType, Span};
use oxc_transformer::{TransformOptions, Transformer};

pub use self::link::{Linker, MODULES_MAX, Wanted, is_name};
use self::positions::Positions;
use super::{
    ContextOwner, RunLimits, RunReport,
    protocol::{ContextId, Form, ModuleText, Open, Owner},
};
use crate::domain::Language;

/// Longest source, in bytes. Bounds the depth to which a source can nest, and with it the stack
/// that [`STACK_BYTES`] provides.
pub const SOURCE_BYTES_MAX: usize = 256 << 10;

/// Deepest nesting of brackets. Far beyond what people write, far below what the compiler's
/// recursion can take.
const BRACKETS_MAX: usize = 256;

/// The compiler recurses with the nesting of the source. Address space, not memory: only what is
/// touched is ever taken.
const STACK_BYTES: usize = 256 << 20;

/// A script ready to run, with the modules that it imports.
#[derive(Clone, Debug)]
pub struct Program {
    root: Arc<Unit>,
    form: Form,
    takes_context: bool,
    /// By the names under which they are imported.
    modules: Vec<(Box<str>, Arc<Unit>)>,
}

/// One compiled source.
#[derive(Debug)]
pub struct Unit {
    file: Box<str>,
    code: Box<str>,
    source: Box<str>,
    shape: Shape,
    positions: Positions,
    warnings: Vec<Warning>,
    imports: Vec<Import>,
    /// `None`: it passes on what others export, too.
    exports: Option<Vec<String>>,
}

/// What a source takes from another one.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Import {
    /// As the author wrote it: `lib/money`, or `lib/money@3`.
    specifier: String,
    /// Names that must be there; none for `import *` and `import()`.
    names: Vec<String>,
    /// Offset in the source.
    at: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    Handler { takes_context: bool },
    Plain,
    Module,
}

/// Why a source is no program. `line` and `column` count from 1.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}:{column}: {message}")]
pub struct CompileError {
    pub file: String,
    pub message: String,
    pub line: u32,
    pub column: u32,
    /// The lines around it, with a mark under the place.
    pub frame: String,
}

/// What will probably not do what its author expects. `line` and `column` count from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    pub message: String,
    pub line: u32,
    pub column: u32,
}

impl Unit {
    /// Compiles the source of a script. `name` is the script's name; stack traces show it as
    /// `{name}.ts`.
    ///
    /// Blocks for about 0.1 ms per 50 lines, on a thread of its own with a deep stack.
    pub fn script(name: &str, language: Language, source: &str) -> Result<Self, CompileError> {
        Self::compile(name, language, source, false)
    }

    /// Compiles the source of a module; `name` may carry a version, as in `lib/money@3`.
    pub fn module(name: &str, language: Language, source: &str) -> Result<Self, CompileError> {
        Self::compile(name, language, source, true)
    }

    fn compile(
        name: &str,
        language: Language,
        source: &str,
        is_module: bool,
    ) -> Result<Self, CompileError> {
        let file = file_name(name, language);
        if let Some((at, message)) = oversized(source) {
            return Err(CompileError::at(&file, source, at, message));
        }
        let compile = || compile(&file, language, source, is_module);
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().name("compile".into()).stack_size(STACK_BYTES);
            match thread.spawn_scoped(scope, compile).map(std::thread::ScopedJoinHandle::join) {
                Ok(Ok(compiled)) => compiled,
                Ok(Err(_)) => Err(CompileError::at(
                    &file,
                    source,
                    0,
                    "the compiler failed on this source".into(),
                )),
                Err(error) => Err(CompileError::at(
                    &file,
                    source,
                    0,
                    format!("no thread to compile on: {error}"),
                )),
            }
        })
    }

    /// What it imports, each name once, in the order of the source.
    #[must_use]
    pub fn imports(&self) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for import in &self.imports {
            if !names.contains(&&*import.specifier) {
                names.push(&import.specifier);
            }
        }
        names
    }

    /// Globals that scripts elsewhere have and these have not, and the like.
    #[must_use]
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    fn error(&self, at: usize, message: String) -> CompileError {
        CompileError::at(&self.file, &self.source, at, message)
    }
}

impl Program {
    /// Compiles a script that imports nothing; one that does is refused.
    pub fn compile(name: &str, language: Language, source: &str) -> Result<Self, CompileError> {
        Linker::new(Unit::script(name, language, source)?).link()
    }

    #[must_use]
    pub fn form(&self) -> Form {
        self.form
    }

    /// How stack traces name the source.
    #[must_use]
    pub fn file(&self) -> &str {
        &self.root.file
    }

    /// Of the script itself.
    #[must_use]
    pub fn warnings(&self) -> &[Warning] {
        &self.root.warnings
    }

    /// The frame that opens a context for this program.
    #[must_use]
    pub fn open<'a>(
        &'a self,
        context: ContextId,
        limits: RunLimits,
        owner: &'a ContextOwner,
    ) -> Open<'a> {
        let module = |(specifier, unit): &'a (Box<str>, Arc<Unit>)| ModuleText {
            specifier,
            file: &unit.file,
            code: &unit.code,
        };
        Open {
            context,
            limits,
            file: &self.root.file,
            code: &self.root.code,
            modules: self.modules.iter().map(module).collect(),
            form: self.form,
            takes_context: self.takes_context,
            owner: Owner::of(owner),
        }
    }

    fn units(&self) -> impl Iterator<Item = &Unit> {
        let modules = self.modules.iter().map(|(_, unit)| &**unit);
        std::iter::once(&*self.root).chain(modules)
    }

    /// Moves the positions in a report's error and logs from the generated code to the source.
    pub fn locate(&self, report: &mut RunReport) {
        for unit in self.units() {
            if let Err(error) = &mut report.outcome {
                unit.positions.translate(&unit.file, &mut error.message);
                if let Some(stack) = &mut error.stack {
                    unit.positions.translate(&unit.file, stack);
                }
            }
            for line in &mut report.logs {
                unit.positions.translate(&unit.file, &mut line.message);
            }
        }
    }

    /// The lines of the source around the first position that a located stack names.
    #[must_use]
    pub fn frame_of(&self, stack: &str) -> Option<String> {
        let places = self.units().filter_map(|unit| {
            let (at, line, column) = positions::first(&unit.file, stack)?;
            Some((at, unit, line, column))
        });
        let (_, unit, line, column) = places.min_by_key(|(at, ..)| *at)?;
        Some(frame(&unit.source, line, column))
    }
}

impl CompileError {
    fn at(file: &str, source: &str, offset: usize, message: String) -> Self {
        let (line, column) = line_column(source, offset);
        Self { file: file.to_owned(), message, line, column, frame: frame(source, line, column) }
    }
}

/// What is refused before the compiler sees it: its offset, and why.
fn oversized(source: &str) -> Option<(usize, String)> {
    if source.len() > SOURCE_BYTES_MAX {
        return Some((
            0,
            format!("source of {} bytes: the limit is {SOURCE_BYTES_MAX}", source.len()),
        ));
    }
    if let Some(at) = source.find('\0') {
        return Some((at, "the source holds a NUL character".into()));
    }
    let mut depth = 0_usize;
    for (at, byte) in source.bytes().enumerate() {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > BRACKETS_MAX {
            return Some((at, format!("nested deeper than {BRACKETS_MAX} brackets")));
        }
    }
    None
}

fn compile(
    file: &str,
    language: Language,
    source: &str,
    is_module: bool,
) -> Result<Unit, CompileError> {
    let fail =
        |span: Span, message: String| CompileError::at(file, source, span.start as usize, message);
    let refuse = |diagnostics: &oxc_diagnostics::Diagnostics| match diagnostics.errors().next() {
        Some(error) => {
            let at = error.labels.first().map_or_else(Span::default, |label| label.span());
            let help = error.help.as_ref().map_or_else(String::new, |help| format!(" ({help})"));
            Err(fail(at, format!("{}{help}", error.message)))
        }
        None => Ok(()),
    };

    let source_type = match language {
        Language::Typescript => SourceType::ts().with_module(true),
        Language::Javascript => SourceType::mjs(),
    };
    let allocator = Allocator::default();
    let parsed = Parser::new(&allocator, source, source_type).parse();
    refuse(&parsed.diagnostics)?;
    let mut program = parsed.program;
    let record = parsed.module_record;

    let analysed = SemanticBuilder::new()
        .with_check_syntax_error(true)
        .with_build_nodes(true)
        .with_enum_eval(true)
        .build(&program);
    refuse(&analysed.diagnostics)?;
    let warnings = lint::missing_globals(&analysed.semantic, source);
    let scoping = analysed.semantic.into_scoping();

    let options = TransformOptions::default();
    let transformed = Transformer::new(&allocator, Path::new(file), &options)
        .build_with_scoping(scoping, &mut program);
    refuse(&transformed.diagnostics)?;

    // `export {}` only tells TypeScript that a file is a module; a plain script has no place for it.
    program.body.retain(
        |statement| !matches!(statement, Statement::ExportNamedDeclaration(export) if export.specifiers.is_empty()),
    );
    let shape = if is_module {
        Shape::Module
    } else {
        shape_of(&program.body).map_err(|(span, message)| fail(span, message))?.read(source)
    };
    let mut imports = imports_of(&program.body);
    for import in &record.dynamic_imports {
        // A name that is not written as a text is not known before it is needed, and then refused.
        let written = import.module_request.source_text(source);
        let quoted =
            written.strip_prefix(['"', '\'']).and_then(|text| text.strip_suffix(['"', '\'']));
        imports.extend(quoted.map(|specifier| Import {
            specifier: specifier.to_owned(),
            names: Vec::new(),
            at: import.span.start as usize,
        }));
    }
    let exports = exports_of(&program.body);
    let options =
        || CodegenOptions { source_map_path: Some(file.into()), ..CodegenOptions::default() };
    // Imports stand outside of the function that a plain script becomes.
    let mut head = String::new();
    if shape == Shape::Plain && !imports.is_empty() {
        let all = program.body.take_in(&&allocator);
        let (outside, inside): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|s| matches!(s, Statement::ImportDeclaration(_)));
        program.body.extend(outside);
        head = Codegen::new().with_options(options()).build(&program).code;
        program.body.clear();
        program.body.extend(inside);
    }
    let printed = Codegen::new().with_options(options()).build(&program);
    let mut positions = Positions::default();
    for token in printed.map.iter().flat_map(|map| map.get_tokens()) {
        positions.add(
            (token.get_dst_line(), token.get_dst_col()),
            (token.get_src_line(), token.get_src_col()),
        );
    }
    let code = if shape == Shape::Plain {
        let lines = head.matches('\n').count() + 1;
        positions.shift_lines(u32::try_from(lines).unwrap_or(u32::MAX));
        format!("{head}export default async function () {{\n{}\n}}", printed.code)
    } else {
        printed.code
    };
    Ok(Unit {
        file: file.into(),
        code: code.into(),
        source: source.into(),
        shape,
        positions,
        warnings,
        imports,
        exports,
    })
}

/// What the syntax says of a script, before its source is looked at.
enum Found<'a, 'b> {
    Default(&'b ExportDefaultDeclarationKind<'a>),
    /// `export { handler as default }`
    Named,
    Plain,
}

impl Found<'_, '_> {
    fn read(&self, source: &str) -> Shape {
        match self {
            Self::Default(handler) => {
                Shape::Handler { takes_context: takes_context(handler, source) }
            }
            Self::Named => Shape::Handler { takes_context: true },
            Self::Plain => Shape::Plain,
        }
    }
}

/// Handler or plain, and what neither may have.
fn shape_of<'a, 'b>(body: &'b [Statement<'a>]) -> Result<Found<'a, 'b>, (Span, String)> {
    let mut found = Found::Plain;
    let mut exported = None;
    for statement in body {
        match statement {
            Statement::ExportAllDeclaration(export) => {
                return Err((export.span, "cannot re-export: only modules do".into()));
            }
            Statement::ExportFromDeclaration(export) => {
                return Err((export.span, "cannot re-export: only modules do".into()));
            }
            Statement::ExportDefaultDeclaration(export) => {
                found = Found::Default(&export.declaration);
            }
            Statement::ExportNamedDeclaration(export) => {
                if export.specifiers.iter().any(|specifier| specifier.exported.name() == "default")
                {
                    found = Found::Named;
                }
                exported.get_or_insert(export.span);
            }
            Statement::ExportDeclaration(export) => {
                exported.get_or_insert(export.span);
            }
            _ => {}
        }
    }
    match (found, exported) {
        (Found::Plain, Some(span)) => Err((
            span,
            "exports, but has no `export default`: a handler module exports its handler as default, a plain script exports nothing, and what others import is a script of kind `module`".into(),
        )),
        (found, _) => Ok(found),
    }
}

/// What is left to import once types are gone.
fn imports_of(body: &[Statement<'_>]) -> Vec<Import> {
    let import = |specifier: &str, names: Vec<String>, span: Span| Import {
        specifier: specifier.to_owned(),
        names,
        at: span.start as usize,
    };
    let mut imports = Vec::new();
    for statement in body {
        match statement {
            Statement::ImportDeclaration(declaration) => {
                let names = declaration.specifiers.iter().flatten().filter_map(|name| match name {
                    ImportDeclarationSpecifier::ImportSpecifier(name) => {
                        Some(name.imported.name().to_string())
                    }
                    ImportDeclarationSpecifier::ImportDefaultSpecifier(_) => Some("default".into()),
                    ImportDeclarationSpecifier::ImportNamespaceSpecifier(_) => None,
                });
                let names = names.collect();
                imports.push(import(&declaration.source.value, names, declaration.span));
            }
            Statement::ExportFromDeclaration(export) => {
                let names = export.specifiers.iter().map(|name| name.local.name().to_string());
                imports.push(import(&export.source.value, names.collect(), export.span));
            }
            Statement::ExportAllDeclaration(export) => {
                imports.push(import(&export.source.value, Vec::new(), export.span));
            }
            _ => {}
        }
    }
    imports
}

/// Names that others may import; `None` when some of them are those of another module.
fn exports_of(body: &[Statement<'_>]) -> Option<Vec<String>> {
    let mut names = Vec::new();
    for statement in body {
        match statement {
            Statement::ExportAllDeclaration(export) => match &export.exported {
                Some(name) => names.push(name.name().to_string()),
                None => return None,
            },
            Statement::ExportFromDeclaration(export) => {
                names.extend(export.specifiers.iter().map(|name| name.exported.name().to_string()));
            }
            Statement::ExportNamedDeclaration(export) => {
                names.extend(export.specifiers.iter().map(|name| name.exported.name().to_string()));
            }
            Statement::ExportDefaultDeclaration(_) => names.push("default".into()),
            Statement::ExportDeclaration(export) => {
                export.declaration.bound_names(&mut |name| names.push(name.name.to_string()));
            }
            _ => {}
        }
    }
    Some(names)
}

/// False only when the handler certainly cannot see its second argument.
fn takes_context(handler: &ExportDefaultDeclarationKind<'_>, source: &str) -> bool {
    let needs = |params: &FormalParameters<'_>| params.items.len() >= 2 || params.rest.is_some();
    match handler {
        // `eval` could name `arguments` too.
        ExportDefaultDeclarationKind::FunctionDeclaration(function) => {
            needs(&function.params) || source.contains("arguments") || source.contains("eval")
        }
        ExportDefaultDeclarationKind::ArrowFunctionExpression(function) => needs(&function.params),
        _ => true,
    }
}

/// `{name}.ts`, with what would make a position hard to find in a stack replaced.
fn file_name(name: &str, language: Language) -> String {
    let plain = |c: char| c.is_alphanumeric() || matches!(c, '.' | '_' | '-' | '/' | '@');
    let extension = language.extension();
    let stem = name.strip_suffix(&format!(".{extension}")).unwrap_or(name);
    let stem: String = stem.chars().take(100).map(|c| if plain(c) { c } else { '-' }).collect();
    format!("{}.{extension}", if stem.is_empty() { "script" } else { &stem })
}

/// Line and column of an offset, from 1; columns count characters.
fn line_column(source: &str, offset: usize) -> (u32, u32) {
    let before = &source[..source.floor_char_boundary(offset.min(source.len()))];
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
    (u32::try_from(line).unwrap_or(u32::MAX), u32::try_from(column).unwrap_or(u32::MAX))
}

/// The lines around a place, with a mark under it.
fn frame(source: &str, line: u32, column: u32) -> String {
    use fmt::Write as _;
    /// Longest stretch of a line that is shown.
    const WIDTH: usize = 160;
    let (line, column) = (line.max(1) as usize, column.max(1) as usize);
    let mut frame = String::new();
    for (number, text) in source.lines().enumerate().map(|(i, text)| (i + 1, text)) {
        if number + 2 < line || number > line + 2 {
            continue;
        }
        let text: String =
            text.chars().take(WIDTH).map(|c| if c == '\t' { ' ' } else { c }).collect();
        let mark = if number == line { '>' } else { ' ' };
        let _ = writeln!(frame, "{mark} {number:>4} | {}", text.trim_end());
        if number == line && column <= WIDTH {
            let _ = writeln!(frame, "       | {}^", " ".repeat(column - 1));
        }
    }
    frame
}

#[cfg(test)]
mod tests;
