"""What a query may be made of. Everything that is not named here is refused, whatever a new sqlglot learns to parse."""

from typing import Final

from sqlglot import exp

STRUCTURE: Final[frozenset[type[exp.Expr]]] = frozenset({
    exp.Alias, exp.CTE, exp.Column, exp.Distinct, exp.Except, exp.Fetch, exp.From, exp.Group, exp.GroupingSets,
    exp.Cube, exp.Rollup, exp.Having, exp.Identifier, exp.Intersect, exp.Join, exp.Lateral, exp.Limit, exp.LimitOptions,
    exp.Offset, exp.Order, exp.Ordered, exp.Paren, exp.Select, exp.Star, exp.Subquery, exp.Table, exp.TableAlias, exp.Tuple,
    exp.Union, exp.Values, exp.Where, exp.Window, exp.WindowSpec, exp.With, exp.WithinGroup, exp.Filter,
})  # fmt: skip

VALUES: Final[frozenset[type[exp.Expr]]] = frozenset({
    exp.Array, exp.Boolean, exp.Bracket, exp.DataType, exp.DataTypeParam, exp.Interval, exp.JSONPath, exp.JSONPathKey,
    exp.JSONPathRoot, exp.JSONPathSubscript, exp.Literal, exp.Null, exp.Placeholder, exp.RawString, exp.Slice, exp.Var,
})  # fmt: skip

OPERATORS: Final[frozenset[type[exp.Expr]]] = frozenset({
    exp.Add, exp.All, exp.And, exp.Any, exp.ArrayContainedBy, exp.ArrayContainsAll, exp.ArrayOverlaps, exp.AtTimeZone,
    exp.Between, exp.BitwiseAnd, exp.BitwiseLeftShift, exp.BitwiseNot, exp.BitwiseOr, exp.BitwiseRightShift, exp.BitwiseXor,
    exp.Case, exp.Cast, exp.Collate, exp.DPipe, exp.Div, exp.EQ, exp.Escape, exp.Exists, exp.GT, exp.GTE, exp.ILike, exp.If,
    exp.In, exp.Is, exp.IntDiv, exp.JSONBContainsTopKey, exp.JSONBExtract, exp.JSONBExtractScalar, exp.JSONExtract,
    exp.JSONExtractScalar, exp.LT, exp.LTE, exp.Like, exp.Mod, exp.Mul, exp.NEQ, exp.Neg, exp.Not, exp.NullSafeEQ,
    exp.NullSafeNEQ, exp.Or, exp.RegexpILike, exp.RegexpLike, exp.SimilarTo, exp.Sub,
})  # fmt: skip

FUNCTIONS: Final[frozenset[type[exp.Expr]]] = frozenset({
    # aggregates
    exp.AnyValue, exp.ArrayAgg, exp.Avg, exp.Corr, exp.Count, exp.CovarPop, exp.CovarSamp, exp.GroupConcat, exp.Grouping,
    exp.JSONArrayAgg, exp.JSONBObjectAgg, exp.JSONObjectAgg, exp.LogicalAnd, exp.LogicalOr, exp.Max, exp.Min, exp.Mode,
    exp.PercentileCont, exp.PercentileDisc, exp.RegrIntercept, exp.RegrR2, exp.RegrSlope, exp.Stddev, exp.StddevPop,
    exp.StddevSamp, exp.Sum, exp.Variance, exp.VariancePop,
    # window
    exp.CumeDist, exp.DenseRank, exp.FirstValue, exp.Lag, exp.LastValue, exp.Lead, exp.NthValue, exp.Ntile, exp.PercentRank,
    exp.Rank, exp.RowNumber,
    # dates
    exp.CurrentDate, exp.CurrentTime, exp.CurrentTimestamp, exp.DateBin, exp.Extract, exp.JustifyDays, exp.JustifyHours,
    exp.JustifyInterval, exp.Localtimestamp, exp.MakeInterval, exp.StrToDate, exp.StrToTime, exp.TimeToStr,
    exp.TimestampFromParts, exp.TimestampTrunc, exp.UnixToTime,
    # text; without repeat, lpad and rpad, which make a gigabyte out of a byte
    exp.Ascii, exp.Chr, exp.Concat, exp.ConcatWs, exp.Initcap, exp.Left, exp.Length, exp.Lower, exp.MD5, exp.Overlay,
    exp.RegexpCount, exp.RegexpReplace, exp.RegexpSubstr, exp.Replace, exp.Reverse, exp.Right, exp.SplitPart, exp.StartsWith,
    exp.StrPosition, exp.StringToArray, exp.Substring, exp.Translate, exp.Trim, exp.Upper, exp.ToNumber,
    # numbers
    exp.Abs, exp.Cbrt, exp.Ceil, exp.Coalesce, exp.Cos, exp.Degrees, exp.Exp, exp.Floor, exp.Greatest, exp.Least, exp.Ln,
    exp.Log, exp.Nullif, exp.Pi, exp.Pow, exp.Radians, exp.Rand, exp.Round, exp.Sign, exp.Sin, exp.Sqrt, exp.Tan, exp.Trunc,
    exp.WidthBucket,
    # arrays and sets
    exp.ArrayAppend, exp.ArrayConcat, exp.ArrayPosition, exp.ArrayRemove, exp.ArraySize, exp.ArrayToString, exp.Explode,
    exp.ExplodingGenerateSeries, exp.GenerateSeries, exp.Unnest,
})  # fmt: skip

GROWS: Final = (exp.Replace, exp.RegexpReplace)
"""Each may make a text as many times longer as its last argument is; three in each other make a gigabyte of a kilobyte."""

NODES: Final = STRUCTURE | VALUES | OPERATORS | FUNCTIONS

PLAIN_FUNCTIONS: Final = frozenset({
    "every", "jsonb_agg",
    "age", "make_date", "make_timestamptz", "isfinite", "timezone",
    "octet_length", "regexp_match", "regexp_split_to_array", "quote_literal", "gcd", "cardinality", "row",
    "json_build_object", "jsonb_build_object", "json_build_array", "jsonb_build_array", "to_json", "to_jsonb", "row_to_json",
    "jsonb_extract_path", "jsonb_extract_path_text", "json_array_length", "jsonb_array_length", "json_typeof",
    "jsonb_typeof",
    "json_array_elements", "jsonb_array_elements", "jsonb_array_elements_text", "json_object_keys", "jsonb_object_keys",
    "jsonb_each", "jsonb_each_text",
})  # fmt: skip
"""Functions that sqlglot has no class for, by PostgreSQL's name."""

TYPES: Final = frozenset({
    exp.DType.ARRAY, exp.DType.BIGINT, exp.DType.BOOLEAN, exp.DType.CHAR, exp.DType.DATE, exp.DType.DECIMAL,
    exp.DType.DOUBLE, exp.DType.FLOAT, exp.DType.INT, exp.DType.INTERVAL, exp.DType.JSON, exp.DType.JSONB,
    exp.DType.SMALLINT, exp.DType.TEXT, exp.DType.TIME, exp.DType.TIMESTAMP, exp.DType.TIMESTAMPTZ, exp.DType.TIMETZ,
    exp.DType.UUID, exp.DType.VARCHAR,
})  # fmt: skip
"""Types of a cast. Not among them: the `reg*` types, which look names up in the catalogue."""
