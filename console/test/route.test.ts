import { expect, test } from "vitest";
import { hashOf, parseRoute, sessionOf, type Route } from "../src/route";

const ID = "7b0c8a3e-4f5d-4d7a-9a51-2f6f0c1d9e10";

test("every place has an address, and every address a place", () => {
  const places: Route[] = [{ at: "home" }, { at: "sessions" }, { at: "numbers" }, { at: "session", id: ID }, { at: "replay", id: ID }, { at: "replay", id: ID, seq: 12 }];
  for (const place of places) expect(parseRoute(hashOf(place))).toEqual(place);
  expect(places.map(sessionOf)).toEqual([undefined, undefined, undefined, ID, ID, ID]);
});

test("links of before, and nonsense", () => {
  expect(parseRoute("#" + ID.toUpperCase())).toEqual({ at: "session", id: ID });
  expect(parseRoute(`#/s/${ID}/replay/x`)).toEqual({ at: "replay", id: ID });
  for (const hash of ["", "#", "#/", "#/s", "#/s/1", "#/s/../x", "#/nowhere", "#/s/" + ID + "x"]) expect(parseRoute(hash)).toEqual({ at: "home" });
});
