import { utf8 } from "#core/lib/bytes.ts";

/**
 * A Nix string literal of any text. Characters that a lexer could take for something else travel as JSON escapes:
 * only for texts that `builtins.fromJSON` reads.
 */
function jsonLiteral(value: unknown): string {
  return `"${JSON.stringify(value).replace(/[\\"$]/g, "\\$&")}"`;
}

/** What an expression costs as an argument, in bytes. */
export function literalBytes(value: unknown): number {
  return utf8(jsonLiteral(value)).length;
}

/** The flake, for all expressions of one evaluation: an interpreter that has it evaluates it once. */
const FLAKE_NAME = "gradientFlake";

/** Defines the flake: what an interpreter is told before the first expression about it. */
export function flakeBinding({ flakeReference, isWrapped }: FlakeSource): string {
  const given = `builtins.getFlake (builtins.fromJSON ${jsonLiteral(flakeReference)})`;
  return `${FLAKE_NAME} = ${isWrapped ? `(${given}).inputs.${WRAPPED_INPUT}` : given}`;
}

/** Under this name a flake is the input of one that only changes what the inputs of the former are. */
export const WRAPPED_INPUT = "wrapped";

export interface FlakeSource {
  /** Names exactly one state of the flake, lock file included. */
  readonly flakeReference: string;
  /** It is not the flake itself, but one that has the flake as an input. */
  readonly isWrapped: boolean;
}

/** Lines for an interpreter that has the flake. The last report but one tells that the expression came to its end. */
export function interpreterLines(mark: string, expression: string): readonly string[] {
  const say = (report: string) => `builtins.trace ("${mark}" + builtins.toJSON { ${report} = true; }) null`;
  return [`builtins.seq (${oneLine(expression)}) (${say("complete")})`, say("end")];
}

/** The same for a process that takes one expression. */
export function singleLines(flake: FlakeSource, mark: string, expression: string): readonly string[] {
  const [line] = interpreterLines(mark, expression);
  return [`let ${flakeBinding(flake)}; in ${line}`];
}

function oneLine(expression: string): string {
  const lines = expression.split("\n").map((line) => line.trim());
  return lines.filter((line) => !line.startsWith("#")).join(" ");
}

/**
 * `say VALUE NEXT` reports a value and goes on. A report is a trace under a mark that the flake cannot know, so
 * it cannot write one: results arrive while the evaluator works, and what it was at when it died is known.
 */
function prelude(mark: string): string {
  return `
    flake = ${FLAKE_NAME};
    say = value: builtins.trace ("${mark}" + builtins.toJSON value);
    each = action: builtins.foldl' (done: item: builtins.seq done (action item)) null;
    kindOf = value:
      if !builtins.isAttrs value then "other"
      else if value ? type && value.type == "derivation" then "derivation"
      else if value ? type || value ? _type then "opaque"
      else "set";
  `;
}

/** One inclusion with a wildcard: its segments, and how many levels below its last one are looked at. */
export interface WalkedPattern {
  readonly segments: readonly WalkedSegment[];
  readonly extraLevels: number;
}

/** A name, or null for any name. `intoOpaque`: whether the walk goes on below sets that have a type of their own. */
export type WalkedSegment = { readonly name: string } | { readonly name: null; readonly intoOpaque: boolean };

/**
 * Lists what the patterns match, without looking at the matches themselves. Reports `source` (the flake's store path),
 * `outputs` (its names), `at` (a path, before it is looked at) and `matches` (below `path`: pairs of a name and the
 * levels to look at below it). Paths up to `resumeAfter` are left out, that one included: a walk can go on behind an
 * attribute that killed it.
 */
export function discoveryExpression(
  mark: string,
  patterns: readonly WalkedPattern[],
  resumeAfter: readonly string[] | null,
): string {
  return `let
    ${prelude(mark)}
    patterns = builtins.fromJSON ${jsonLiteral(patterns)};
    resumeAfter = builtins.fromJSON ${jsonLiteral(resumeAfter)};

    # A state is the rest of one pattern. Below a node it becomes the states of the child called name.
    step = name: state:
      let segment = builtins.head state.segments; in
      if segment.name == null || segment.name == name
      then [ {
        segments = builtins.tail state.segments;
        inherit (state) extraLevels;
        plain = segment.name == null && !segment.intoOpaque;
      } ]
      else [ ];

    visit = path: value: states: resume: say { at = path; } (
      let
        kind = kindOf value;
        usable = builtins.filter (state:
          if kind == "opaque" then !state.plain
          else if kind == "derivation" then (builtins.head state.segments).name != null
          else true) states;
        isWild = builtins.any (state: (builtins.head state.segments).name == null) usable;
        headName = state: (builtins.head state.segments).name;
        literals = builtins.listToAttrs (map (state: { name = headName state; value = null; }) usable);
        all =
          if isWild then builtins.attrNames value
          else builtins.filter (name: value ? \${name}) (builtins.attrNames literals);
        isResuming = resume != null && resume != [ ];
        names = if isResuming then builtins.filter (name: !(name < builtins.head resume)) all else all;
        childStates = name: builtins.concatMap (step name) usable;
        matched = builtins.concatMap (name:
          let ends = builtins.filter (state: state.segments == [ ]) (childStates name); in
          if ends == [ ] || (isResuming && name == builtins.head resume) then [ ]
          else [ [ name (builtins.foldl' deepest 0 ends) ] ]) names;
        deepest = most: state: if state.extraLevels > most then state.extraLevels else most;
        descend = name:
          let
            further = builtins.filter (state: state.segments != [ ]) (childStates name);
            isResumed = isResuming && name == builtins.head resume;
            rest = builtins.tail resume;
          in
          if further == [ ] || (isResumed && rest == [ ]) then null
          else visit (path ++ [ name ]) value.\${name} further (if isResumed then rest else null);
      in
      if kind == "other" || usable == [ ] then null
      else builtins.seq
        (if matched == [ ] then null else say { matches = matched; inherit path; } null)
        (each descend names));
  in
    say { source = builtins.unsafeDiscardStringContext (toString flake.outPath); }
      (say { outputs = builtins.attrNames flake.outputs; }
        (visit [ ] flake.outputs (map (pattern: pattern // { plain = false; }) patterns) resumeAfter))
  `;
}

/** A set of these attributes by their numbers, `i0` and so on, none of which is looked at. */
export function attributeSetExpression(flake: FlakeSource, attributes: readonly (readonly string[])[]): string {
  return oneLine(`let
    ${flakeBinding(flake)};
    find = builtins.foldl' (value: name: value.\${name}) ${FLAKE_NAME}.outputs;
    paths = builtins.fromJSON ${jsonLiteral(attributes)};
  in builtins.listToAttrs (builtins.genList (index: {
    name = "i\${toString index}";
    value = find (builtins.elemAt paths index);
  }) (builtins.length paths))`);
}

export interface InstantiatedItem {
  readonly path: readonly string[];
  /** List the names below when it is a plain set. */
  readonly wantsNames: boolean;
  /** Tell what it is, without computing its derivation. */
  readonly kindOnly: boolean;
}

/**
 * Computes derivations. Reports `source`, `begin` (the number of an item, before it is looked at), then for the item
 * one of: `drvPath`; `absent` (how many of its names exist) with `names` (what is there instead); `kind` (and `names`);
 * and when `quiet`, `failed` for what only throws. Without `quiet` such an item ends the process with Nix's words.
 */
export function instantiationExpression(
  mark: string,
  items: readonly InstantiatedItem[],
  { quiet }: { readonly quiet: boolean },
): string {
  return `let
    ${prelude(mark)}
    items = builtins.fromJSON ${jsonLiteral(items)};
    quiet = ${quiet};

    find = value: path: depth:
      if path == [ ] then { found = true; inherit value; }
      else if builtins.isAttrs value && value ? \${builtins.head path}
      then find value.\${builtins.head path} (builtins.tail path) (depth + 1)
      else { found = false; inherit depth; names = if builtins.isAttrs value then builtins.attrNames value else [ ]; };

    describe = item:
      let
        place = find flake.outputs item.path 0;
        kind = kindOf place.value;
      in
      if !place.found then { absent = place.depth; inherit (place) names; }
      else if kind == "derivation" && !item.kindOnly
      then { drvPath = builtins.unsafeDiscardStringContext place.value.drvPath; }
      else if kind == "set" && item.wantsNames then { inherit kind; names = builtins.attrNames place.value; }
      else { inherit kind; };

    # Computed in full before anything is reported: half a report would be none.
    complete = item: let result = describe item; in builtins.deepSeq result result;
    attempt = item:
      if quiet
      then (let tried = builtins.tryEval (complete item); in if tried.success then tried.value else { failed = true; })
      else complete item;
    report = index:
      let item = builtins.elemAt items index; in
      say { begin = index; } (
        let result = attempt item; in builtins.seq result (say (result // { item = index; }) null));
  in
    say { source = builtins.unsafeDiscardStringContext (toString flake.outPath); }
      (builtins.seq (builtins.attrNames flake.outputs)
        (each report (builtins.genList (index: index) (builtins.length items))))
  `;
}
