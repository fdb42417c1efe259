/** TypeScript's language service over one script, `sdk.d.ts` and the payload's type; all in memory. */
import ts from 'typescript';

import type { Choices, Fault, Hover } from '../../../ui/editor';
import { dress, type Dressed } from './dress';

export interface Surroundings {
  /** `sdk.d.ts`. */
  sdk: string;
  /** `type Payload = …`. */
  payload: string;
  language: 'typescript' | 'javascript';
  /** What can be imported, by name. */
  modules: { name: string; source: string; language: 'typescript' | 'javascript' }[];
}

const MODULES = '/modules/';
const SDK = '/sdk.d.ts';
const PAYLOAD = '/payload.d.ts';
const FAULTS_MAX = 100;
const CHOICES_MAX = 500;

const KINDS: Record<string, string> = {
  [ts.ScriptElementKind.functionElement]: 'function',
  [ts.ScriptElementKind.localFunctionElement]: 'function',
  [ts.ScriptElementKind.memberFunctionElement]: 'method',
  [ts.ScriptElementKind.memberVariableElement]: 'property',
  [ts.ScriptElementKind.memberGetAccessorElement]: 'property',
  [ts.ScriptElementKind.classElement]: 'class',
  [ts.ScriptElementKind.interfaceElement]: 'interface',
  [ts.ScriptElementKind.typeElement]: 'type',
  [ts.ScriptElementKind.moduleElement]: 'namespace',
  [ts.ScriptElementKind.keyword]: 'keyword',
  [ts.ScriptElementKind.constElement]: 'constant',
};

export class ScriptLanguage {
  #files = new Map<string, { text: string; version: number }>();
  #file = '/script.ts';
  #isJavaScript = false;
  #service: ts.LanguageService;

  constructor(libs: ReadonlyMap<string, string>) {
    const text = (file: string): string | undefined => this.#files.get(file)?.text ?? (file.startsWith('/lib/') ? libs.get(file.slice(5)) : undefined);
    this.#service = ts.createLanguageService({
      getCompilationSettings: () => this.#options(),
      getScriptFileNames: () => [SDK, PAYLOAD, this.#file],
      getScriptVersion: (file) => String(this.#files.get(file)?.version ?? 0),
      getScriptSnapshot: (file) => {
        const found = text(file);
        return found === undefined ? undefined : ts.ScriptSnapshot.fromString(found);
      },
      getCurrentDirectory: () => '/',
      getDefaultLibFileName: () => '/lib/lib.es2023.d.ts',
      fileExists: (file) => text(file) !== undefined,
      resolveModuleNameLiterals: (names) => names.map(({ text: name }) => ({ resolvedModule: this.#module(name) })),
      readFile: text,
    });
  }

  /** A version that is named is taken for the one of now: the editor knows no other. */
  #module(name: string): ts.ResolvedModuleFull | undefined {
    const file = `${MODULES}${name.split('@')[0]}`;
    const extension = [ts.Extension.Ts, ts.Extension.Js].find((one) => this.#files.has(file + one));
    return extension && { resolvedFileName: file + extension, extension, isExternalLibraryImport: false };
  }

  surround({ sdk, payload, language, modules }: Surroundings): void {
    this.#isJavaScript = language === 'javascript';
    this.#file = this.#isJavaScript ? '/script.js' : '/script.ts';
    // A plain script gets the payload from here.
    this.#put(SDK, sdk.replace('current<T = any>()', 'current<T = Payload>()'));
    this.#put(PAYLOAD, payload);
    const kept = new Set(modules.map((one) => `${MODULES}${one.name}.${one.language === 'typescript' ? 'ts' : 'js'}`));
    for (const file of this.#files.keys()) if (file.startsWith(MODULES) && !kept.has(file)) this.#files.delete(file);
    for (const { name, source, language } of modules) this.#put(`${MODULES}${name}.${language === 'typescript' ? 'ts' : 'js'}`, source);
  }

  check(source: string): Fault[] {
    const dressed = this.#open(source);
    const found = [...this.#service.getSyntacticDiagnostics(this.#file), ...this.#service.getSemanticDiagnostics(this.#file)];
    return found.slice(0, FAULTS_MAX).map(({ start = 0, length = 1, messageText, category, code }) => ({
      from: dressed.back(start),
      to: dressed.back(start + length),
      severity: category === ts.DiagnosticCategory.Error ? 'error' : 'warning',
      message: ts.flattenDiagnosticMessageText(messageText, '\n'),
      source: `TypeScript ${code}`,
    }));
  }

  complete(source: string, position: number): Choices {
    const dressed = this.#open(source);
    const found = this.#service.getCompletionsAtPosition(this.#file, dressed.into(position), {});
    return (found?.entries ?? []).slice(0, CHOICES_MAX).map(({ name, kind, sortText }) => ({
      label: name,
      type: KINDS[kind] ?? 'variable',
      // Globals of the language come after what the script and the SDK have.
      boost: sortText > '15' ? -50 : kind === ts.ScriptElementKind.keyword ? -60 : 0,
    }));
  }

  /** What a choice of `complete` is. */
  detail(source: string, position: number, label: string): string {
    const dressed = this.#open(source);
    const found = this.#service.getCompletionEntryDetails(this.#file, dressed.into(position), label, undefined, undefined, undefined, undefined);
    return found ? described(found.displayParts, found.documentation) : '';
  }

  hover(source: string, position: number): Hover | null {
    const dressed = this.#open(source);
    // At the character that begins here, behind what was put in before it.
    const found = this.#service.getQuickInfoAtPosition(this.#file, dressed.into(position + 1) - 1);
    if (!found) return null;
    const { start, length } = found.textSpan;
    return { from: dressed.back(start), to: dressed.back(start + length), text: described(found.displayParts, found.documentation) };
  }

  #open(source: string): Dressed {
    const dressed = dress(source, this.#file);
    this.#put(this.#file, dressed.text);
    return dressed;
  }

  #put(file: string, text: string): void {
    const now = this.#files.get(file);
    if (now?.text !== text) this.#files.set(file, { text, version: (now?.version ?? 0) + 1 });
  }

  #options(): ts.CompilerOptions {
    return {
      target: ts.ScriptTarget.ES2023,
      module: ts.ModuleKind.ESNext,
      // A plain script is a module here, so that its names stay its own.
      moduleDetection: ts.ModuleDetectionKind.Force,
      moduleResolution: ts.ModuleResolutionKind.Bundler,
      lib: ['lib.es2023.d.ts'],
      types: [],
      allowJs: true,
      checkJs: true,
      noEmit: true,
      skipLibCheck: true,
      strict: !this.#isJavaScript,
      noImplicitAny: false,
    };
  }
}

function described(parts: ts.SymbolDisplayPart[] | undefined, documentation: ts.SymbolDisplayPart[] | undefined): string {
  return [ts.displayPartsToString(parts), ts.displayPartsToString(documentation)].filter(Boolean).join('\n\n');
}
