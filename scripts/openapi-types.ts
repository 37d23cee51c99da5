import { join } from "node:path";
import {
  API,
  type Checker,
  type Symbol as CompilerSymbol,
  type Project,
  SymbolFlags,
  type Type,
  TypeFlags,
} from "typescript/unstable/sync";
import { ROOT } from "./source-files.ts";

/** JSON Schema 2020-12, as OpenAPI 3.1 has it. */
export type Schema = Readonly<Record<string, unknown>>;

/** The compiler's view of the sources: what answers are made of stands in types, and nowhere else. */
export interface TypeReader extends Disposable {
  /** The schema of what each route's answer holds, by the route's name; no entry for one without a type. */
  answers(): ReadonlyMap<string, Schema>;
  /** What the comments say of the fields of an exported type, by the fields' names. */
  fieldComments(file: string, typeName: string): ReadonlyMap<string, string>;
  /** What the answers refer to, by name. Complete after `answers`. */
  readonly components: ReadonlyMap<string, Schema>;
}

const PROJECT = "tsconfig.core.json";
const ROUTES_FILE = "core/api/openapi/routes.ts";
/** Types that are declared here are known to clients by their names. */
const NAMED_FOLDER = "/core/api/";

export function openTypeReader(): TypeReader {
  const api = new API({ cwd: ROOT });
  try {
    const snapshot = api.updateSnapshot({ openProjects: [join(ROOT, PROJECT)] });
    const project = snapshot.getProject(join(ROOT, PROJECT));
    if (!project) throw new Error(`the compiler does not know ${PROJECT}`);
    const components = new Map<string, Schema>();
    const writer = new SchemaWriter(project.checker, components);
    return {
      components,
      answers: () => readAnswers(project, writer),
      fieldComments: (file, typeName) => readComments(project, file, typeName),
      [Symbol.dispose]: () => api.close(),
    };
  } catch (error) {
    api.close();
    throw error;
  }
}

function readAnswers(project: Project, writer: SchemaWriter): ReadonlyMap<string, Schema> {
  const { checker } = project;
  const answers = new Map<string, Schema>();
  for (const route of checker.getPropertiesOfType(exportedType(project, ROUTES_FILE, "Routes"))) {
    const spec = checker.getTypeOfSymbol(route);
    const field = spec && checker.getPropertyOfType(spec, "answer");
    const answer = field && checker.getTypeOfSymbol(field);
    const [held] = answer?.isTypeReference() ? checker.getTypeArguments(answer) : [];
    if (held) answers.set(route.name, writer.schemaOf(held));
  }
  return answers;
}

function readComments(project: Project, file: string, typeName: string): ReadonlyMap<string, string> {
  const { checker } = project;
  const comments = new Map<string, string>();
  for (const field of checker.getPropertiesOfType(exportedType(project, file, typeName))) {
    const comment = checker.getDocumentationCommentOfSymbol(field);
    if (comment !== "") comments.set(field.name, comment);
  }
  return comments;
}

function exportedType({ program, checker }: Project, file: string, name: string): Type {
  const source = program.getSourceFile(join(ROOT, file));
  const module = source && checker.getSymbolAtLocation(source);
  const symbol = module && checker.getExportsOfModule(module).find((one) => one.name === name);
  if (!symbol) throw new Error(`${file} exports no ${name}`);
  return checker.getDeclaredTypeOfSymbol(symbol);
}

/** Types as schemas. A type with a name of ours becomes a component, whatever has none is written where it stands. */
class SchemaWriter {
  readonly #checker: Checker;
  readonly #components: Map<string, Schema>;
  /** Which declaration a component's name stands for. */
  readonly #owners = new Map<string, string>();

  constructor(checker: Checker, components: Map<string, Schema>) {
    this.#checker = checker;
    this.#components = components;
  }

  schemaOf(type: Type): Schema {
    const named = this.#nameOf(type);
    if (named === null) return this.#bareSchemaOf(type);
    const { name, owner } = named;
    const known = this.#owners.get(name);
    if (known !== undefined && known !== owner) throw new Error(`two types are called ${name}: ${known} and ${owner}`);
    if (known === undefined) {
      // Ahead of its fields: they may refer to it.
      this.#owners.set(name, owner);
      const comment = (type.getAliasSymbol() ?? type.getSymbol())?.getDocumentationComment(this.#checker) ?? "";
      this.#components.set(name, described(this.#bareSchemaOf(type), comment));
    }
    return { $ref: `#/components/schemas/${name}` };
  }

  #nameOf(type: Type): { readonly name: string; readonly owner: string } | null {
    const alias = type.getAliasSymbol();
    const isGeneric =
      type.getAliasTypeArguments().length > 0 ||
      (!alias && type.isTypeReference() && this.#checker.getTypeArguments(type).length > 0);
    const symbol = alias ?? (type.isClassOrInterface() ? type.getSymbol() : undefined);
    const owner = String(symbol?.declarations[0]?.path ?? "");
    return symbol && !isGeneric && owner.includes(NAMED_FOLDER) ? { name: symbol.name, owner } : null;
  }

  #bareSchemaOf(type: Type): Schema {
    const { flags } = type;
    if (flags & TypeFlags.AnyOrUnknown) return {};
    if (flags & TypeFlags.Boolean) return { type: "boolean" };
    if (type.isUnionType()) return this.#unionOf(type.getTypes());
    if (type.isStringLiteralType() || type.isNumberLiteralType() || type.isBooleanLiteralType()) {
      return { const: type.value };
    }
    if (flags & TypeFlags.String || type.isTemplateLiteralType()) return { type: "string" };
    if (flags & TypeFlags.Number) return { type: "number" };
    if (flags & TypeFlags.Null) return { type: "null" };
    if (this.#checker.isArrayType(type) && type.isTypeReference()) {
      const [item] = this.#checker.getTypeArguments(type);
      return { type: "array", items: item ? this.schemaOf(item) : {} };
    }
    if (flags & TypeFlags.Object || type.isIntersectionType()) return this.#objectOf(type);
    throw new Error(`no schema is known for the type ${this.#checker.typeToString(type)}`);
  }

  #objectOf(type: Type): Schema {
    const properties: Record<string, Schema> = {};
    const required: string[] = [];
    for (const field of this.#checker.getPropertiesOfType(type)) {
      const fieldType = this.#fieldTypeOf(field);
      if (!fieldType) continue;
      const comment = this.#checker.getDocumentationCommentOfSymbol(field);
      properties[field.name] = described(this.schemaOf(fieldType), comment);
      if (!(field.flags & SymbolFlags.Optional)) required.push(field.name);
    }
    const [index] = this.#checker.getIndexInfosOfType(type);
    return {
      type: "object",
      ...(Object.keys(properties).length > 0 && { properties }),
      ...(required.length > 0 && { required }),
      ...(index && { additionalProperties: this.schemaOf(index.valueType) }),
    };
  }

  /** Of a field that may be absent the type without `undefined`: with it, a union has no name any more. */
  #fieldTypeOf(field: CompilerSymbol): Type | undefined {
    const type = this.#checker.getTypeOfSymbol(field);
    if (!type?.isUnionType() || !(field.flags & SymbolFlags.Optional)) return type;
    const mayBeNull = type.getTypes().some(({ flags }) => flags & TypeFlags.Null);
    return mayBeNull ? type : this.#checker.getNonNullableType(type);
  }

  #unionOf(types: readonly Type[]): Schema {
    const parts = types.filter(({ flags }) => !(flags & TypeFlags.Undefined));
    const nullable = parts.some(({ flags }) => flags & TypeFlags.Null);
    const rest = parts.filter(({ flags }) => !(flags & TypeFlags.Null));
    const texts = rest.flatMap((part) => (part.isStringLiteralType() ? [part.value] : []));
    const booleans = rest.filter(({ flags }) => flags & TypeFlags.BooleanLiteral);
    const others = rest.filter((part) => !part.isStringLiteralType() && !booleans.includes(part));

    const schemas = others.map((part) => this.schemaOf(part));
    if (texts.length > 0) schemas.push({ type: "string", enum: texts });
    if (booleans.length === 2) schemas.push({ type: "boolean" });
    else schemas.push(...booleans.map((part) => this.#bareSchemaOf(part)));
    const [only] = schemas;
    if (schemas.length === 1 && only) return nullable ? orNull(only) : only;
    return { anyOf: nullable ? [...schemas, { type: "null" }] : schemas };
  }
}

function orNull(schema: Schema): Schema {
  if (typeof schema.type !== "string") return { anyOf: [schema, { type: "null" }] };
  const values = schema.enum as unknown[] | undefined;
  return { ...schema, type: [schema.type, "null"], ...(values && { enum: [...values, null] }) };
}

function described(schema: Schema, comment: string): Schema {
  return comment === "" ? schema : { ...schema, description: comment.trim() };
}
