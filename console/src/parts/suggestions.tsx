// What the built-in demo model can show, for somebody who is here for the first time.

const DEMO: [name: string, prompt: string][] = [
  ["Stream an answer", "Why do cursors matter? /tokens 120"],
  ["Think first", "/reason 40 What should I say first? /tokens 60"],
  ["Call three tools", "/steps 3 Look it up"],
  ["Ask me something", "/ask Which colour do you like?"],
  ["Stop a long one", "Tell me everything /tokens 3000"],
  ["5,000 tokens at once", "/pace 0 /tokens 5000"],
  ["Fail half-way", "/fail 500 after 20"],
  ["Fall silent", "/hang 8"],
];

export function Suggestions({ onPick }: { onPick(prompt: string): void }) {
  return (
    <section class="suggestions" aria-labelledby="suggestions">
      <h2 id="suggestions">The demo model answers. Let it show something:</h2>
      <ul>
        {DEMO.map(([name, prompt]) => (
          <li key={name}>
            <button type="button" class="chip" onClick={() => onPick(prompt)}>
              {name}
              <code>{prompt}</code>
            </button>
          </li>
        ))}
      </ul>
      <p class="dim">A suggestion goes into the box; change it, combine it, send it. The words with a slash tell the demo model what to do.</p>
    </section>
  );
}
