/**
 * Lets plain Node run the fuzzer: TypeScript is transpiled as it is loaded, and what lies in src/ counts how often each of its branches
 * runs. Counters and string constants go to globalThis.weightcastCoverage. (The one coverage-guided fuzzer for JavaScript on npm,
 * @jazzer.js/core 4.0.0, can't be loaded on Debian 12: its prebuilt binary asks for GLIBC_2.38 and GLIBCXX_3.4.32.)
 *
 *     node --import ./test/fuzz/coverage/loader.mjs test/fuzz/coverage/main.ts --seconds 80
 */
import { readFile } from 'node:fs/promises';
import { register } from 'node:module';
import { isMainThread } from 'node:worker_threads';
import ts from 'typescript';

const root = new URL('../../../', import.meta.url).href;
const PLACE = 'globalThis.weightcastCoverage';

if (isMainThread) {
  globalThis.weightcastCoverage = { hits: new Uint8Array(1 << 16), size: 0, words: [] };
  register(import.meta.url);
}

/** `./x.js` beside a TypeScript file is `./x.ts`. */
export function resolve(specifier, context, next) {
  const own = context.parentURL?.startsWith(root) && !context.parentURL.includes('/node_modules/');
  if (!specifier.startsWith('.') || !own) return next(specifier, context);
  return next(specifier.replace(/\.js$/, '.ts'), context);
}

export async function load(url, context, next) {
  if (!url.endsWith('.ts')) return next(url, context);
  const source = await readFile(new URL(url), 'utf8');
  const counted = url.startsWith(`${root}src/`);
  const words = new Set();
  const { outputText } = ts.transpileModule(source, {
    fileName: url,
    compilerOptions: { module: ts.ModuleKind.ESNext, target: ts.ScriptTarget.ES2022, inlineSourceMap: true },
    transformers: counted ? { before: [counting(words)] } : {},
  });
  if (!counted) return { format: 'module', source: outputText, shortCircuit: true };
  const told = `${PLACE}.size = Math.max(${PLACE}.size, ${counter}); ${PLACE}.words.push(...${JSON.stringify([...words])});`;
  return { format: 'module', source: `${told} ${outputText}`, shortCircuit: true };
}

let counter = 0;

const SHORTCUTS = new Set([
  ts.SyntaxKind.AmpersandAmpersandToken,
  ts.SyntaxKind.BarBarToken,
  ts.SyntaxKind.QuestionQuestionToken,
]);

/** A transformer that puts a counter into every branch and collects string constants. */
function counting(words) {
  const { factory: f } = ts;
  const hit = () =>
    f.createPostfixIncrement(
      f.createElementAccessExpression(f.createIdentifier(`${PLACE}.hits`), f.createNumericLiteral(counter++)),
    );
  const counted = (value) => f.createParenthesizedExpression(f.createCommaListExpression([hit(), value]));
  const first = (statements) => [f.createExpressionStatement(hit()), ...statements];
  const block = (node) => f.createBlock(first(ts.isBlock(node) ? node.statements : [node]), true);

  return (context) => (file) => {
    const visit = (original) => {
      if (ts.isStringLiteral(original) && original.text.length > 0 && original.text.length <= 32) {
        if (!/^[./]|^node:/.test(original.text)) words.add(original.text);
      }
      const node = ts.visitEachChild(original, visit, context);
      if (ts.isIfStatement(node)) {
        const otherwise = block(node.elseStatement ?? f.createBlock([]));
        return f.updateIfStatement(node, node.expression, block(node.thenStatement), otherwise);
      }
      if (ts.isForStatement(node)) {
        const { initializer, condition, incrementor, statement } = node;
        return f.updateForStatement(node, initializer, condition, incrementor, block(statement));
      }
      if (ts.isForOfStatement(node)) {
        const { awaitModifier, initializer, expression, statement } = node;
        return f.updateForOfStatement(node, awaitModifier, initializer, expression, block(statement));
      }
      if (ts.isWhileStatement(node))
        return f.updateWhileStatement(node, node.expression, block(node.statement));
      if (ts.isCaseClause(node)) return f.updateCaseClause(node, node.expression, first(node.statements));
      if (ts.isCatchClause(node))
        return f.updateCatchClause(node, node.variableDeclaration, block(node.block));
      if (ts.isConditionalExpression(node)) {
        const { condition, questionToken, whenTrue, colonToken, whenFalse } = node;
        return f.updateConditionalExpression(
          node,
          condition,
          questionToken,
          counted(whenTrue),
          colonToken,
          counted(whenFalse),
        );
      }
      if (ts.isBinaryExpression(node) && SHORTCUTS.has(node.operatorToken.kind)) {
        return f.updateBinaryExpression(node, node.left, node.operatorToken, counted(node.right));
      }
      return node;
    };
    return ts.visitNode(file, visit);
  };
}
