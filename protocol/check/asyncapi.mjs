// Usage: node asyncapi.mjs <document>. Prints complaints; fails on errors and warnings.
import { readFileSync } from 'node:fs'
import { Parser } from '@asyncapi/parser'

const { document, diagnostics } = await new Parser().parse(readFileSync(process.argv[2], 'utf8'))
// The first say what is wrong; one mistake in a shared schema is repeated for every message that uses it.
for (const { severity, path, message } of diagnostics.slice(0, 20)) {
  console.log(`${['error', 'warning', 'info', 'hint'][severity]}: ${path.join('.')}: ${message}`)
}
const bad = !document || diagnostics.some(({ severity }) => severity <= 1)
console.log(bad ? 'invalid' : `valid: ${document.allMessages().length} messages`)
process.exitCode = bad ? 1 : 0
