// What the keys do, and what the words at the top mean.
import { useState } from "preact/hooks";
import { lettersOn, setLetters } from "../keys";
import { Dialog } from "./dialog";

const KEYS: [string, [keys: string[], what: string][]][] = [
  ["Anywhere", [[["?"], "this list"], [["n"], "a new session"], [["g"], "all sessions"], [["m"], "numbers"], [["d"], "dark, light, or as the system has it"]]],
  ["In a session", [[["Enter"], "send"], [["Shift", "Enter"], "a new line"], [["Esc"], "stop the running task"], [["Ctrl", "Enter"], "steer the running task at once"], [["/"], "into the box"], [["t"], "timeline"], [["e"], "events"], [["i"], "about the session"]]],
  ["In a replay", [[["Space"], "play and pause"], [["←"], "one event back"], [["→"], "one event on"], [["Home"], "to the beginning"], [["End"], "to the end"]]],
];

const STATES: [string, string][] = [
  ["Connecting", "nothing has come from the hub yet"],
  ["Catching up", "connected; what was missed is on its way"],
  ["Live", "everything that has happened is shown"],
  ["Reconnecting", "the connection is lost and being made again; what you see may be old"],
  ["Closed", "over, and why"],
];

export function Help({ onClose }: { onClose(): void }) {
  const [letters, set] = useState(lettersOn);
  return (
    <Dialog title="Keys and words" onClose={onClose}>
      <div class="help">
        {KEYS.map(([where, keys]) => (
          <section key={where}>
            <h3>{where}</h3>
            <dl>
              {keys.map(([names, what]) => (
                <div key={what}>
                  <dt>
                    {names.map((name) => (
                      <kbd key={name}>{name}</kbd>
                    ))}
                  </dt>
                  <dd>{what}</dd>
                </div>
              ))}
            </dl>
          </section>
        ))}
        <section>
          <h3>The connection</h3>
          <dl>
            {STATES.map(([word, what]) => (
              <div key={word}>
                <dt>{word}</dt>
                <dd>{what}</dd>
              </div>
            ))}
          </dl>
        </section>
      </div>
      <label class="check">
        <input
          type="checkbox"
          checked={letters}
          onChange={(event) => {
            setLetters(event.currentTarget.checked);
            set(event.currentTarget.checked);
          }}
        />{" "}
        Single keys work outside of fields
      </label>
    </Dialog>
  );
}
