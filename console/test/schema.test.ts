import { describe, expect, test } from "vitest";
import { initially, parseJson, payloadOf, planForm, type FormPlan } from "../src/schema";

const fieldsOf = (plan: Form) => (plan.form === "one" ? [plan.field] : plan.fields);
type Form = Exclude<FormPlan, { form: "json" }>;
const budget = { type: "object", required: ["budget"], properties: { budget: { type: "number", minimum: 1 }, why: { type: "string", title: "Reason" }, sure: { type: "boolean" }, size: { enum: ["S", "M", 3] } } };

describe("what becomes a form", () => {
  test("no schema: one line of text", () => expect(planForm(undefined)).toMatchObject({ form: "one", field: { kind: "text", required: false } }));
  test("a bare value", () => {
    expect(planForm({ type: "string" })).toMatchObject({ form: "one", field: { kind: "text" } });
    expect(planForm({ type: "string", maxLength: 500 })).toMatchObject({ field: { kind: "long-text" } });
    expect(planForm({ enum: ["yes", "no"] })).toMatchObject({ field: { kind: "choice", choices: ["yes", "no"] } });
  });
  test("an object of plain values", () => {
    const plan = planForm(budget) as Extract<FormPlan, { form: "object" }>;
    expect(plan.fields.map(({ label, kind, required }) => [label, kind, required])).toEqual([
      ["budget", "number", true],
      ["Reason", "text", false],
      ["sure", "boolean", false],
      ["size", "choice", false],
    ]);
  });
  test.each([
    ["nested", { type: "object", properties: { a: { type: "object" } } }],
    ["a list", { type: "array", items: { type: "string" } }],
    ["alternatives", { type: "object", properties: { a: { anyOf: [{ type: "string" }] } } }],
    ["a reference", { type: "object", properties: { a: { $ref: "#/x", type: "string" } } }],
    ["required and not described", { type: "object", required: ["b"], properties: { a: { type: "string" } } }],
    ["no properties", { type: "object" }],
    ["choices that are no text", { enum: [{ a: 1 }] }],
    ["no schema at all", "nonsense"],
    ["false", false],
  ])("%s: JSON is written by hand", (_, schema) => expect(planForm(schema)).toEqual({ form: "json" }));
});

describe("what is sent", () => {
  const plan = planForm(budget) as Form;
  test("numbers are numbers, empty optional fields are left out", () => {
    expect(payloadOf(plan, { ...initially(fieldsOf(plan)), budget: "12.5", size: "3" })).toEqual({ budget: 12.5, sure: false, size: 3 });
  });
  test("what is no number is sent as it is, for the hub to complain about", () => expect(payloadOf(plan, { budget: "much" })).toMatchObject({ budget: "much" }));
  test("a bare value is itself", () => {
    expect(payloadOf(planForm(undefined) as Form, { value: "blue" })).toBe("blue");
    expect(payloadOf(planForm(undefined) as Form, { value: "" })).toBe("");
    expect(payloadOf(planForm({ type: "integer" }) as Form, { value: "4" })).toBe(4);
    expect(payloadOf(planForm({ type: "boolean" }) as Form, { value: true })).toBe(true);
  });
  test("JSON, or why it is none", () => {
    expect(parseJson("[1]")).toEqual({ value: [1] });
    expect(parseJson("[1")).toHaveProperty("problem");
  });
});
