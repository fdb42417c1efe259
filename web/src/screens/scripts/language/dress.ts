/**
 * A script with types where its author wrote none: the default export's parameters are the payload
 * and the context. Places are translated, so that nobody sees what was put in.
 */
import ts from 'typescript';

const TYPES = ['Payload', 'EventContext'];

interface Insertion {
  at: number;
  text: string;
}

export interface Dressed {
  text: string;
  /** From the author's text to this one, and back. */
  into(position: number): number;
  back(position: number): number;
}

type Handler = ts.FunctionDeclaration | ts.FunctionExpression | ts.ArrowFunction;

export function dress(text: string, file: string): Dressed {
  const source = ts.createSourceFile(file, text, ts.ScriptTarget.ES2023, true);
  const handler = handlerOf(source);
  const insertions = handler ? insertionsOf(handler, source, file.endsWith('.js')) : [];
  let dressed = '';
  let end = 0;
  for (const { at, text: put } of insertions) {
    dressed += text.slice(end, at) + put;
    end = at;
  }
  return {
    text: dressed + text.slice(end),
    into: (position) => insertions.reduce((sum, { at, text: put }) => (at < position ? sum + put.length : sum), position),
    back(position) {
      let shift = 0;
      for (const { at, text: put } of insertions) {
        if (position <= at + shift) break;
        if (position < at + shift + put.length) return at;
        shift += put.length;
      }
      return position - shift;
    },
  };
}

function handlerOf(source: ts.SourceFile): Handler | null {
  for (const statement of source.statements) {
    if (ts.isFunctionDeclaration(statement) && statement.modifiers?.some((one) => one.kind === ts.SyntaxKind.DefaultKeyword)) return statement;
    if (ts.isExportAssignment(statement) && !statement.isExportEquals) return functionIn(statement.expression);
  }
  return null;
}

function functionIn(expression: ts.Expression): Handler | null {
  if (ts.isParenthesizedExpression(expression)) return functionIn(expression.expression);
  return ts.isArrowFunction(expression) || ts.isFunctionExpression(expression) ? expression : null;
}

function insertionsOf(handler: Handler, source: ts.SourceFile, isJavaScript: boolean): Insertion[] {
  const isBare = ts.isArrowFunction(handler) && !handler.getChildren(source).some((child) => child.kind === ts.SyntaxKind.OpenParenToken);
  return handler.parameters.slice(0, TYPES.length).flatMap((parameter, index) => {
    if (parameter.type || parameter.dotDotDotToken || parameter.initializer || ts.getJSDocType(parameter)) return [];
    const [start, end] = [parameter.getStart(source), (parameter.questionToken ?? parameter.name).end];
    const before = `${isBare ? '(' : ''}${isJavaScript ? `/** @type {${TYPES[index]}} */ ` : ''}`;
    const after = `${isJavaScript ? '' : `: ${TYPES[index]}`}${isBare ? ')' : ''}`;
    return [{ at: start, text: before }, { at: end, text: after }].filter(({ text }) => text !== '');
  });
}
