import { describe, expect, it } from "vitest";
import { lineOfStep, parseInstructions } from "./dockerfile-lines.ts";

const DOCKERFILE = `# syntax=docker/dockerfile:1
ARG VERSION=20
FROM node:\${VERSION} AS build
WORKDIR /app
ENV A=1
COPY package.json ./
RUN npm ci \\
    # a remark
    --no-audit

FROM build AS test
RUN npm test
FROM debian
COPY --from=build /app /app
RUN <<EOF
echo RUN
EOF
RUN true
`;

describe("parseInstructions", () => {
  it("joins continued lines, leaves out comments and keeps here-documents together", () => {
    const found = parseInstructions(DOCKERFILE).map(({ line, keyword }) => `${line} ${keyword}`);
    expect(found).toEqual([
      "2 ARG",
      "3 FROM",
      "4 WORKDIR",
      "5 ENV",
      "6 COPY",
      "7 RUN",
      "11 FROM",
      "12 RUN",
      "13 FROM",
      "14 COPY",
      "15 RUN",
      "18 RUN",
    ]);
    expect(parseInstructions(DOCKERFILE)[5]?.text).toBe("RUN npm ci --no-audit");
  });

  it.each(["", "\\", "RUN <<EOF", "RUN a \\", "<<", "\n\n#"])("takes %j without an end", (text) => {
    expect(Array.isArray(parseInstructions(text))).toBe(true);
  });
});

describe("lineOfStep", () => {
  it.each([
    ["[build 1/4] FROM docker.io/library/node:20", 3],
    ["[build 2/4] WORKDIR /app", 4],
    ["[build 4/4] RUN npm ci --no-audit", 7],
    ["[test 1/1] RUN npm test", 12],
    ["[stage-2 2/4] COPY --from=build /app /app", 14],
    ["[stage-2 3/4] RUN <<EOF", 15],
    ["[stage-2 4/4] RUN true", 18],
    ["[stage-2 4/9] RUN of an ONBUILD", undefined],
    ["[nobody 1/1] RUN x", undefined],
    ["exporting to image", undefined],
  ])("%s stands in line %s", (step, line) => {
    expect(lineOfStep(DOCKERFILE, step)).toBe(line);
  });

  it("finds a step of the only stage, which has no name", () => {
    expect(lineOfStep("FROM a\nCOPY . .\nRUN x\n", "[3/3] RUN x")).toBe(3);
  });
});
