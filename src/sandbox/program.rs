//! Programs: what a script's source becomes before it can run.
//!
//! TypeScript is stripped, the form decided from the syntax tree, and a map kept from positions in
//! the generated code to those in the author's source, so that every error names the line the
//! author wrote. Pure: the same source gives the same program, on any thread.

mod lint;
mod positions;

use std::{fmt, path::Path, sync::Arc};

use oxc_allocator::Allocator;
use oxc_ast::ast::{ExportDefaultDeclarationKind, FormalParameters, Statement};
use oxc_codegen::{Codegen, CodegenOptions};
use oxc_parser::Parser;
use oxc_semantic::SemanticBuilder;
use oxc_span::{SourceType, Span};
use oxc_transformer::{TransformOptions, Transformer};

use self::positions::Positions;
use super::{
    ContextOwner, RunLimits, RunReport,
    protocol::{ContextId, Form, Open, Owner},
};
use crate::domain::{Language, RunError};

/// Longest source, in bytes. Bounds the depth to which a source can nest, and with it the stack
/// that [`STACK_BYTES`] provides.
pub const SOURCE_BYTES_MAX: usize = 256 << 10;

/// Deepest nesting of brackets. Far beyond what people write, far below what the compiler's
/// recursion can take.
const BRACKETS_MAX: usize = 256;

/// The compiler recurses with the nesting of the source. Address space, not memory: only what is
/// touched is ever taken.
const STACK_BYTES: usize = 256 << 20;

/// A script ready to run.
#[derive(Clone, Debug)]
pub struct Program {
    file: Box<str>,
    code: Arc<str>,
    form: Form,
    takes_context: bool,
    source: Arc<str>,
    positions: Arc<Positions>,
    warnings: Vec<Warning>,
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

impl Program {
    /// Compiles a source. `name` is the script's name; stack traces show it as `{name}.ts`.
    ///
    /// Blocks for about 0.1 ms per 50 lines, on a thread of its own with a deep stack.
    pub fn compile(name: &str, language: Language, source: &str) -> Result<Self, CompileError> {
        let file = file_name(name, language);
        if let Some((at, message)) = oversized(source) {
            return Err(CompileError::at(&file, source, at, message));
        }
        let compile = || compile(&file, language, source);
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

    #[must_use]
    pub fn form(&self) -> Form {
        self.form
    }

    /// How stack traces name the source.
    #[must_use]
    pub fn file(&self) -> &str {
        &self.file
    }

    /// Globals that scripts elsewhere have and these have not, and the like.
    #[must_use]
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    /// The frame that opens a context for this program.
    #[must_use]
    pub fn open<'a>(
        &'a self,
        context: ContextId,
        limits: RunLimits,
        owner: &'a ContextOwner,
    ) -> Open<'a> {
        Open {
            context,
            limits,
            file: &self.file,
            code: &self.code,
            form: self.form,
            takes_context: self.takes_context,
            owner: Owner::of(owner),
        }
    }

    /// Moves the positions in a report's error and logs from the generated code to the source.
    pub fn locate(&self, report: &mut RunReport) {
        if let Err(error) = &mut report.outcome {
            self.locate_error(error);
        }
        for line in &mut report.logs {
            self.positions.translate(&self.file, &mut line.message);
        }
    }

    fn locate_error(&self, error: &mut RunError) {
        self.positions.translate(&self.file, &mut error.message);
        if let Some(stack) = &mut error.stack {
            self.positions.translate(&self.file, stack);
        }
    }

    /// The lines of the source around the first position that a located stack names.
    #[must_use]
    pub fn frame_of(&self, stack: &str) -> Option<String> {
        let (line, column) = positions::first(&self.file, stack)?;
        Some(frame(&self.source, line, column))
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

fn compile(file: &str, language: Language, source: &str) -> Result<Program, CompileError> {
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
    let shape = shape_of(&program.body, source).map_err(|(span, message)| fail(span, message))?;
    let printed = Codegen::new()
        .with_options(CodegenOptions {
            source_map_path: Some(file.into()),
            ..CodegenOptions::default()
        })
        .build(&program);
    let mut positions = Positions::default();
    for token in printed.map.iter().flat_map(|map| map.get_tokens()) {
        positions.add(
            (token.get_dst_line(), token.get_dst_col()),
            (token.get_src_line(), token.get_src_col()),
        );
    }
    let (code, form, takes_context) = match shape {
        Shape::Handler { takes_context } => (printed.code, Form::Handler, takes_context),
        Shape::Plain => {
            positions.shift_lines(1);
            (
                format!("export default async function () {{\n{}\n}}", printed.code),
                Form::Plain,
                false,
            )
        }
    };
    Ok(Program {
        file: file.into(),
        code: code.into(),
        form,
        takes_context,
        source: source.into(),
        positions: Arc::new(positions),
        warnings,
    })
}

enum Shape {
    Handler { takes_context: bool },
    Plain,
}

/// Handler or plain, and what neither may have.
fn shape_of(body: &[Statement<'_>], source: &str) -> Result<Shape, (Span, String)> {
    let mut shape = Shape::Plain;
    let mut exported = None;
    for statement in body {
        match statement {
            Statement::ImportDeclaration(import) => {
                return Err((
                    import.span,
                    format!(
                        "cannot import `{}`: a script has no other modules to import from",
                        import.source.value
                    ),
                ));
            }
            Statement::ExportAllDeclaration(export) => {
                return Err((
                    export.span,
                    "cannot re-export: a script has no other modules".into(),
                ));
            }
            Statement::ExportDefaultDeclaration(export) => {
                shape =
                    Shape::Handler { takes_context: takes_context(&export.declaration, source) };
            }
            Statement::ExportFromDeclaration(export) => {
                return Err((
                    export.span,
                    "cannot re-export: a script has no other modules".into(),
                ));
            }
            Statement::ExportNamedDeclaration(export) => {
                // `export { handler as default }`
                if export.specifiers.iter().any(|specifier| specifier.exported.name() == "default")
                {
                    shape = Shape::Handler { takes_context: true };
                }
                exported.get_or_insert(export.span);
            }
            Statement::ExportDeclaration(export) => {
                exported.get_or_insert(export.span);
            }
            _ => {}
        }
    }
    match (shape, exported) {
        (Shape::Plain, Some(span)) => Err((
            span,
            "exports, but has no `export default`: a handler module exports its handler as default, a plain script exports nothing".into(),
        )),
        (shape, _) => Ok(shape),
    }
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
    let plain = |c: char| c.is_alphanumeric() || matches!(c, '.' | '_' | '-' | '/');
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
