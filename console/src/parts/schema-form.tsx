// Fields for what an agent asks for, made from the schema it gave.
import { useId, useState } from "preact/hooks";
import { initially, type Field, type FormPlan, type Typed } from "../schema";

type Plan = Exclude<FormPlan, { form: "json" }>;

export function useTyped(plan: FormPlan): [Typed, (name: string, value: string | boolean) => void] {
  const [typed, setTyped] = useState<Typed>(() => (plan.form === "json" ? {} : initially(fieldsOf(plan))));
  return [typed, (name, value) => setTyped((before) => ({ ...before, [name]: value }))];
}

export const fieldsOf = (plan: Plan): Field[] => (plan.form === "one" ? [plan.field] : plan.fields);

/** One field alone is the answer; that it may be empty is no news worth a word. */
export function SchemaFields({ plan, typed, onType, question }: { plan: Plan; typed: Typed; question?: string | undefined; onType(name: string, value: string | boolean): void }) {
  return (
    <div class="fields">
      {fieldsOf(plan).map((field) => (
        <SchemaField
          key={field.name}
          field={plan.form === "one" && question ? { ...field, label: question } : field}
          alone={plan.form === "one"}
          value={typed[field.name] ?? ""}
          onType={(value) => onType(field.name, value)}
        />
      ))}
    </div>
  );
}

function SchemaField({ field, alone, value, onType }: { field: Field; alone: boolean; value: string | boolean; onType(value: string | boolean): void }) {
  const id = useId();
  const common = { id, required: field.required, ...(field.hint && { "aria-describedby": id + "h" }) };
  const text = { ...common, value: String(value), onInput: (event: Event) => onType((event.currentTarget as HTMLInputElement).value) };
  const hint = field.hint && (
    <small id={id + "h"} class="dim">
      {field.hint}
    </small>
  );
  if (field.kind === "boolean") {
    return (
      <div class="field check">
        <input {...common} required={false} type="checkbox" checked={value === true} onChange={(event) => onType(event.currentTarget.checked)} />
        <label for={id}>{field.label}</label>
        {hint}
      </div>
    );
  }
  return (
    <div class="field">
      <label for={id}>
        {field.label}
        {field.required || alone ? "" : <span class="dim"> (optional)</span>}
      </label>
      {field.kind === "choice" ? (
        <select {...common} value={String(value)} onChange={(event) => onType(event.currentTarget.value)}>
          <option value="">Choose…</option>
          {field.choices?.map((choice) => <option key={choice}>{String(choice)}</option>)}
        </select>
      ) : field.kind === "long-text" ? (
        <textarea {...text} rows={3} maxLength={field.maxLength} />
      ) : field.kind === "text" ? (
        <input {...text} autocomplete="off" maxLength={field.maxLength} />
      ) : (
        <input {...text} type="number" inputMode="decimal" step={field.kind === "integer" ? 1 : "any"} min={field.minimum} max={field.maximum} />
      )}
      {hint}
    </div>
  );
}
