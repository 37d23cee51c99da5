import * as v from "valibot";

const PER_PAGE_DEFAULT = 50;
const PER_PAGE_MAX = 100;
/** Far beyond any list, and `page * per_page` stays an exact number. */
const PAGE_MAX = 1_000_000;

/** `page` counts from 1; `per_page` is clamped to 1 to 100. */
export const PageQuery = v.object({
  page: wholeNumber("1", PAGE_MAX),
  per_page: wholeNumber(String(PER_PAGE_DEFAULT), PER_PAGE_MAX),
}) satisfies v.GenericSchema<unknown, PageQuery>;
export interface PageQuery {
  readonly page: number;
  readonly per_page: number;
}

export interface Page<T> {
  readonly items: readonly T[];
  readonly total: number;
  readonly page: number;
  readonly per_page: number;
}

/** What a page asks of the database. */
export function pageWindow({ page, per_page }: PageQuery): { readonly limit: number; readonly offset: number } {
  return { limit: per_page, offset: (page - 1) * per_page };
}

/** Its own type says that the field may be absent. */
function wholeNumber(byDefault: string, max: number) {
  return v.optional(
    v.pipe(
      v.string(),
      v.regex(/^\d{1,9}$/, "must be a whole number of at most nine digits, without a sign"),
      v.transform(Number),
      v.toMinValue(1),
      v.toMaxValue(max),
    ),
    byDefault,
  );
}
