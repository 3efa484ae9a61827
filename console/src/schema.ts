// A form from a JSON Schema, where that is simple enough to be one; otherwise the person writes JSON. The hub checks what is sent in
// any case and says what is wrong with it, so this only has to be helpful, not complete.

export type Schema = Record<string, unknown>;

export type FieldKind = "text" | "long-text" | "number" | "integer" | "boolean" | "choice";

export interface Field {
  name: string;
  label: string;
  hint?: string;
  kind: FieldKind;
  required: boolean;
  choices?: (string | number)[];
  initial?: string | number | boolean;
  minimum?: number;
  maximum?: number;
  maxLength?: number;
}

/** `one`: a bare value; `object`: one field per property; `json`: too rich for a form. */
export type FormPlan = { form: "one"; field: Field } | { form: "object"; fields: Field[] } | { form: "json" };

const MOST_FIELDS = 12;

export function planForm(schema: unknown): FormPlan {
  if (schema === undefined || schema === null || schema === true) return { form: "one", field: plainText() };
  if (typeof schema !== "object" || Array.isArray(schema)) return { form: "json" };
  const it = schema as Schema;
  if (it["type"] === "object") return planObject(it);
  const field = fieldOf("value", it, true);
  return field ? { form: "one", field: { ...field, label: typeof it["title"] === "string" ? it["title"] : "Answer" } } : { form: "json" };
}

function plainText(): Field {
  return { name: "value", label: "Answer", kind: "text", required: false };
}

function planObject(schema: Schema): FormPlan {
  const properties = schema["properties"];
  if (!isRecord(properties)) return { form: "json" };
  const required = Array.isArray(schema["required"]) ? schema["required"] : [];
  const names = Object.keys(properties);
  // A property that must be there but is not described cannot be asked for.
  if (!names.length || names.length > MOST_FIELDS || required.some((name) => !names.includes(String(name)))) return { form: "json" };
  const fields = names.map((name) => fieldOf(name, properties[name], required.includes(name)));
  return fields.every((field) => field !== undefined) ? { form: "object", fields } : { form: "json" };
}

function fieldOf(name: string, described: unknown, required: boolean): Field | undefined {
  if (!isRecord(described)) return undefined;
  // Words that combine schemas say more than a field can show.
  if (["$ref", "allOf", "anyOf", "oneOf", "not", "if", "const"].some((word) => word in described)) return undefined;
  const kind = kindOf(described);
  if (!kind) return undefined;
  const initial = described["default"];
  return {
    name,
    label: typeof described["title"] === "string" ? described["title"] : name,
    kind,
    required,
    ...(typeof described["description"] === "string" && { hint: described["description"] }),
    ...(kind === "choice" && { choices: described["enum"] as (string | number)[] }),
    ...((typeof initial === "string" || typeof initial === "number" || typeof initial === "boolean") && { initial }),
    ...(typeof described["minimum"] === "number" && { minimum: described["minimum"] }),
    ...(typeof described["maximum"] === "number" && { maximum: described["maximum"] }),
    ...(typeof described["maxLength"] === "number" && { maxLength: described["maxLength"] }),
  };
}

function kindOf(described: Schema): FieldKind | undefined {
  const choices = described["enum"];
  if (choices !== undefined) {
    const plain = Array.isArray(choices) && choices.length > 0 && choices.every((one) => typeof one === "string" || typeof one === "number");
    return plain ? "choice" : undefined;
  }
  switch (described["type"]) {
    case "string":
      return Number(described["maxLength"] ?? 0) > 200 ? "long-text" : "text";
    case "number":
      return "number";
    case "integer":
      return "integer";
    case "boolean":
      return "boolean";
    default:
      return undefined;
  }
}

const isRecord = (value: unknown): value is Record<string, unknown> => typeof value === "object" && value !== null && !Array.isArray(value);

/** What was typed, by the name of the field. */
export type Typed = Record<string, string | boolean>;

/** What the fields hold before anybody has typed. */
export function initially(fields: Field[]): Typed {
  return Object.fromEntries(fields.map(({ name, kind, initial }) => [name, kind === "boolean" ? initial === true : initial === undefined ? "" : String(initial)]));
}

/** What to send. An optional field left empty is left out. */
export function payloadOf(plan: Exclude<FormPlan, { form: "json" }>, typed: Typed): unknown {
  if (plan.form === "one") return valueOf(plan.field, typed[plan.field.name] ?? "") ?? "";
  const pairs = plan.fields.map((field) => [field.name, valueOf(field, typed[field.name] ?? "")] as const);
  return Object.fromEntries(pairs.filter(([, value]) => value !== undefined));
}

function valueOf({ kind, required, choices }: Field, typed: string | boolean): unknown {
  if (typeof typed === "boolean" || kind === "boolean") return Boolean(typed);
  if (typed === "" && (!required || (kind !== "text" && kind !== "long-text"))) return undefined;
  if (kind === "choice") return choices?.find((one) => String(one) === typed) ?? typed;
  if (kind !== "number" && kind !== "integer") return typed;
  // What is no number is sent as it is: the hub's complaint names the field.
  const value = Number(typed);
  return Number.isNaN(value) ? typed : value;
}

/** JSON, or why it is none. */
export function parseJson(text: string): { value: unknown } | { problem: string } {
  try {
    return { value: JSON.parse(text) as unknown };
  } catch (error) {
    return { problem: error instanceof Error ? error.message : "This is not JSON" };
  }
}
