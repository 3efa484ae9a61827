// A request to a person: an approval of a tool call, or a question. The first valid answer wins, from whichever tab it comes.
import { useEffect, useId, useRef, useState } from "preact/hooks";
import { HubError, type PendingInput } from "../client";
import { parseJson, payloadOf, planForm } from "../schema";
import { moment, pretty } from "../words";
import { Check, Cross } from "./icons";
import { SchemaFields, useTyped } from "./schema-form";

type Answer = { outcome: "accept" | "reject"; payload?: unknown; editedArguments?: unknown };

export function InputCard({ input }: { input: PendingInput }) {
  const id = useId();
  const [sending, setSending] = useState(false);
  const [problem, setProblem] = useState<string>();
  const respond = async (answer: Answer) => {
    setSending(true);
    setProblem(undefined);
    try {
      await input.respond(answer);
    } catch (error) {
      // The request stays open when the answer did not fit; what was typed is still there.
      setProblem(complaintOf(error));
    } finally {
      setSending(false);
    }
  };
  const place = useRef<HTMLElement>(null);
  // It is what comes next: who has nothing in the box is taken here.
  useEffect(() => {
    const { activeElement } = document;
    const idle = activeElement === document.body || (activeElement instanceof HTMLTextAreaElement && activeElement.id === "prompt" && !activeElement.value);
    if (idle && input.kind === "input") place.current?.querySelector<HTMLElement>("input, textarea, select")?.focus();
  }, []);
  return (
    <section class="input-card" ref={place} aria-labelledby={id} data-request={input.requestId} data-kind={input.kind}>
      <header>
        <strong id={id}>{input.kind === "approval" ? "Your approval is needed" : "The agent asks you"}</strong>
        {input.expiresAt && <small class="dim">open until {moment(input.expiresAt)}</small>}
      </header>
      {input.kind === "approval" ? <Approval input={input} sending={sending} refused={problem} respond={respond} /> : <Question input={input} sending={sending} refused={problem} respond={respond} />}
    </section>
  );
}

interface PartProps {
  input: PendingInput;
  sending: boolean;
  /** What the hub said of the last answer. */
  refused: string | undefined;
  respond(answer: Answer): void;
}

function Approval({ input, sending, refused, respond }: PartProps) {
  const id = useId();
  const [edited, setEdited] = useState<string>();
  const [problem, setProblem] = useState<string>();
  const accept = () => {
    if (edited === undefined) return respond({ outcome: "accept" });
    const parsed = parseJson(edited);
    if ("problem" in parsed) return setProblem(`The arguments are not JSON: ${parsed.problem}`);
    setProblem(undefined);
    respond({ outcome: "accept", editedArguments: parsed.value });
  };
  return (
    <form
      onSubmit={(event) => {
        event.preventDefault();
        accept();
      }}
    >
      {input.prompt && <p>{input.prompt}</p>}
      {input.tool && (
        <p>
          It wants to call <code>{input.tool}</code> with:
        </p>
      )}
      {edited === undefined
        ? input.arguments !== undefined && <pre tabIndex={0} aria-label="Arguments">{pretty(input.arguments)}</pre>
        : (
          <div class="field">
            <label for={id}>Arguments, as JSON</label>
            <textarea id={id} class="code" rows={Math.min(12, edited.split("\n").length + 1)} spellcheck={false} value={edited} onInput={(event) => setEdited(event.currentTarget.value)} />
          </div>
        )}
      {(problem ?? refused) && (
        <p class="note bad" role="alert">
          {problem ?? refused}
        </p>
      )}
      <div class="actions">
        <button type="submit" class="primary" disabled={sending}>
          <Check /> {edited === undefined ? "Approve" : "Approve with these"}
        </button>
        <button type="button" disabled={sending} onClick={() => respond({ outcome: "reject" })}>
          <Cross /> Reject
        </button>
        {input.arguments !== undefined && (
          <button type="button" class="plain" onClick={() => setEdited(edited === undefined ? JSON.stringify(input.arguments, null, 2) : undefined)}>
            {edited === undefined ? "Edit the arguments" : "Leave them as they were"}
          </button>
        )}
      </div>
    </form>
  );
}

function Question({ input, sending, refused, respond }: PartProps) {
  const id = useId();
  const plan = planForm(input.schema);
  const [typed, onType] = useTyped(plan);
  const [json, setJson] = useState("");
  const [problem, setProblem] = useState<string>();
  useEffect(() => setProblem(undefined), [json]);
  const accept = () => {
    if (plan.form !== "json") return respond({ outcome: "accept", payload: payloadOf(plan, typed) });
    const parsed = parseJson(json);
    if ("problem" in parsed) return setProblem(`The answer is not JSON: ${parsed.problem}`);
    respond({ outcome: "accept", payload: parsed.value });
  };
  const question = input.prompt || "The agent waits for you";
  return (
    <form
      onSubmit={(event) => {
        event.preventDefault();
        accept();
      }}
    >
      {plan.form === "object" && <p>{question}</p>}
      {plan.form === "json" ? (
        <>
          <div class="field">
            <label for={id}>{question}</label>
            <textarea id={id} class="code" rows={4} spellcheck={false} placeholder="The answer, as JSON" value={json} onInput={(event) => setJson(event.currentTarget.value)} />
          </div>
          <details>
            <summary>What it has to look like</summary>
            <pre tabIndex={0} aria-label="Schema">{pretty(input.schema)}</pre>
          </details>
        </>
      ) : (
        <SchemaFields plan={plan} typed={typed} onType={onType} question={input.prompt} />
      )}
      {(problem ?? refused) && (
        <p class="note bad" role="alert">
          {problem ?? refused}
        </p>
      )}
      <div class="actions">
        <button type="submit" class="primary" disabled={sending}>
          <Check /> Answer
        </button>
        <button type="button" disabled={sending} onClick={() => respond({ outcome: "reject" })}>
          <Cross /> Decline
        </button>
      </div>
    </form>
  );
}

function complaintOf(error: unknown): string {
  if (!(error instanceof HubError)) return error instanceof Error ? error.message : String(error);
  if (error.code === "already_resolved") return "Someone else answered first.";
  const details = Array.isArray(error.details) ? error.details.map((one: { message?: string }) => one.message ?? JSON.stringify(one)).join("; ") : "";
  return details && !error.message.includes(details) ? `${error.message}: ${details}` : error.message;
}
