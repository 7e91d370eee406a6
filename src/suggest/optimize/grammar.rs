//! What conditions of rewrites must know of a language's grammar, as tables: kinds and fields of its nodes, and what of
//! its library only looks at what it is given.

use crate::syntax::Piece;

/// A kind of node and the field that matters in it; an empty field stands for any place in it.
pub(super) type Field = (&'static str, &'static str);

/// One row per language, or per family of languages with the same kinds.
pub(super) struct Grammar {
    pub(super) languages: &'static [&'static str],
    /// Names of variables.
    pub(super) names: &'static [&'static str],
    /// Loops, and what of them runs again and again.
    pub(super) loops: &'static [Field],
    /// Loops, and what they go over.
    pub(super) iterables: &'static [Field],
    pub(super) functions: &'static [&'static str],
    /// Calls: the kind, the called, the arguments.
    pub(super) calls: &'static [(&'static str, &'static str, &'static str)],
    /// Members: the kind, the object, the name.
    pub(super) members: &'static [(&'static str, &'static str, &'static str)],
    /// Elements: the kind and the object.
    pub(super) elements: &'static [Field],
    /// What changes the variable in that field.
    pub(super) assigns: &'static [Field],
    /// Nodes whose operands are only looked at.
    pub(super) reads: &'static [&'static str],
    /// What may stand in an expression without effects, besides names, calls of `pure`, members and elements.
    pub(super) values: &'static [&'static str],
    /// Parts that hold no reference to a variable though they have its kind.
    pub(super) labels: &'static [Field],
    /// Functions that only look at their arguments, and whose value depends on nothing else.
    pub(super) pure: &'static [&'static str],
    /// Methods that only look at their object.
    pub(super) looks: &'static [&'static str],
    /// Declarations: the kind, the name, the type, the value.
    pub(super) declares: &'static [[&'static str; 4]],
    pub(super) imports: &'static [&'static str],
    pub(super) statements: &'static [&'static str],
}

/// Functions that Python has without an import.
#[rustfmt::skip]
pub(super) const BUILTINS: &[&str] = &[
    "abs", "all", "any", "bin", "bool", "bytearray", "bytes", "callable", "chr", "complex",
    "dict", "dir", "divmod", "enumerate", "filter", "float", "format", "frozenset", "hash",
    "hex", "id", "input", "int", "isinstance", "issubclass", "iter", "len", "list", "map", "max",
    "min", "next", "object", "oct", "open", "ord", "pow", "print", "range", "repr", "reversed",
    "round", "set", "slice", "sorted", "str", "sum", "tuple", "type", "vars", "zip",
];

/// The row of a language.
pub(super) fn of(language: &str) -> Option<&'static Grammar> {
    GRAMMARS.iter().find(|grammar| grammar.languages.contains(&language))
}

impl Grammar {
    /// Whether a node is a reference to a variable.
    pub(super) fn is_name(&self, piece: Piece<'_>) -> bool {
        self.names.contains(&piece.kind()) && !self.is_in(piece, self.labels)
    }

    /// Whether a node is given another value: it or a pattern that it is part of stands where values go.
    pub(super) fn is_assigned(&self, piece: Piece<'_>) -> bool {
        let mut outer = piece;
        while let Some(parent) = outer.parent().filter(|p| PATTERNS.contains(&p.kind())) {
            outer = parent;
        }
        let binds = |p: Piece<'_>| ["as_pattern_target", "case_pattern"].contains(&p.kind());
        self.is_in(outer, self.assigns) || piece.ancestors().take(5).any(binds)
    }

    /// Whether a node stands in one of these fields of its parent.
    pub(super) fn is_in(&self, piece: Piece<'_>, fields: &[Field]) -> bool {
        let Some(parent) = piece.parent() else { return false };
        fields.iter().any(|(kind, field)| {
            parent.kind() == *kind
                && match *field {
                    // The grammar of Rust names no field here.
                    "" if *kind == "index_expression" => parent.parts().first() == Some(&piece),
                    "" => true,
                    field => parent.fields(field).contains(&piece),
                }
        })
    }

    /// What a node calls, if it is a call.
    pub(super) fn called<'t>(&self, piece: Piece<'t>) -> Option<Piece<'t>> {
        let (_, called, _) = self.calls.iter().find(|(kind, ..)| *kind == piece.kind())?;
        piece.field(called)
    }

    /// Object and name, if a node is a member of something.
    pub(super) fn member<'t>(&self, piece: Piece<'t>) -> Option<(Piece<'t>, Piece<'t>)> {
        let (_, object, name) = self.members.iter().find(|(kind, ..)| *kind == piece.kind())?;
        Some((piece.field(object)?, piece.field(name)?))
    }
}

/// What groups names that are given values together, in all languages.
const PATTERNS: &[&str] = &[
    "dotted_name",
    "expression_list",
    "pattern_list",
    "tuple_pattern",
    "list_pattern",
    "list_splat_pattern",
    "dictionary_splat_pattern",
    "mut_pattern",
    "ref_pattern",
    "reference_pattern",
    "captured_pattern",
    "slice_pattern",
    "or_pattern",
    "tuple_struct_pattern",
    "field_pattern",
    "struct_pattern",
    "array_pattern",
    "object_pattern",
    "rest_pattern",
    "pair_pattern",
    "shorthand_property_identifier_pattern",
    "reference_declarator",
    "pointer_declarator",
    "structured_binding_declarator",
];

#[rustfmt::skip]
static GRAMMARS: [Grammar; 5] = [
    Grammar {
        languages: &["python"],
        names: &["identifier"],
        loops: &[
            ("for_statement", "body"),
            ("while_statement", "body"),
            ("while_statement", "condition"),
            ("list_comprehension", "body"),
            ("set_comprehension", "body"),
            ("dictionary_comprehension", "body"),
            ("generator_expression", "body"),
            ("list_comprehension", "if_clause"),
            ("generator_expression", "if_clause"),
        ],
        iterables: &[("for_statement", "right"), ("for_in_clause", "right")],
        functions: &["function_definition", "lambda", "class_definition"],
        calls: &[("call", "function", "arguments")],
        members: &[("attribute", "object", "attribute")],
        elements: &[("subscript", "value")],
        assigns: &[
            ("assignment", "left"),
            ("augmented_assignment", "left"),
            ("for_statement", "left"),
            ("for_in_clause", "left"),
            ("delete_statement", ""),
            ("named_expression", "name"),
            ("as_pattern_target", ""),
            ("global_statement", ""),
            ("nonlocal_statement", ""),
            ("function_definition", "name"),
            ("class_definition", "name"),
            ("parameters", ""),
            ("lambda_parameters", ""),
            ("default_parameter", "name"),
            ("typed_default_parameter", "name"),
            ("typed_parameter", ""),
            ("aliased_import", "alias"),
            ("import_from_statement", "name"),
        ],
        reads: &[
            "comparison_operator", "boolean_operator", "not_operator", "binary_operator", "unary_operator",
            "if_statement", "elif_clause", "while_statement", "conditional_expression", "interpolation",
            "parenthesized_expression", "slice", "if_clause", "assert_statement", "format_specifier",
        ],
        values: &[
            "integer", "float", "string", "concatenated_string", "true", "false", "none", "tuple", "list", "set",
            "dictionary", "pair", "comparison_operator", "boolean_operator", "not_operator", "binary_operator",
            "unary_operator", "conditional_expression", "parenthesized_expression", "slice", "interpolation",
            "string_start", "string_content", "string_end", "escape_sequence", "argument_list", "format_specifier",
            "format_expression", "list_comprehension", "set_comprehension", "dictionary_comprehension",
            "generator_expression", "for_in_clause", "if_clause", "keyword_argument", "tuple_pattern",
            "pattern_list", "type_conversion",
        ],
        labels: &[("keyword_argument", "name"), ("attribute", "attribute")],
        pure: &[
            "len", "abs", "min", "max", "sum", "int", "float", "str", "bool", "ord", "chr", "round", "sorted",
            "range", "enumerate", "zip", "any", "all", "list", "tuple", "set", "frozenset", "dict", "repr", "hash",
            "divmod", "pow", "bin", "hex", "oct", "reversed", "isinstance", "type", "Counter", "deque",
        ],
        looks: &[
            "index", "count", "keys", "values", "items", "get", "copy", "startswith", "endswith", "split", "strip",
            "lstrip", "rstrip", "lower", "upper", "join", "find", "rfind", "replace", "isdigit", "isalpha",
            "isalnum", "isspace", "isupper", "islower", "splitlines", "format", "title", "encode", "decode",
            "zfill", "ljust", "rjust", "center", "partition", "rpartition", "issubset", "issuperset", "isdisjoint",
            "union", "intersection", "difference", "bit_length", "is_integer", "casefold", "capitalize",
            "swapcase", "rindex",
        ],
        declares: &[
            ["assignment", "left", "type", "right"],
            ["typed_parameter", "", "type", ""],
            ["typed_default_parameter", "name", "type", "value"],
        ],
        imports: &["import_statement", "import_from_statement"],
        statements: &["block", "module"],
    },
    Grammar {
        languages: &["rust"],
        names: &["identifier", "self", "shorthand_field_identifier"],
        loops: &[
            ("for_expression", "body"),
            ("while_expression", "body"),
            ("while_expression", "condition"),
            ("loop_expression", "body"),
        ],
        iterables: &[("for_expression", "value")],
        functions: &["function_item"],
        calls: &[("call_expression", "function", "arguments")],
        members: &[("field_expression", "value", "field")],
        elements: &[("index_expression", "")],
        assigns: &[
            ("assignment_expression", "left"),
            ("compound_assignment_expr", "left"),
            ("let_declaration", "pattern"),
            ("for_expression", "pattern"),
            ("parameter", "pattern"),
            ("closure_parameters", ""),
            ("match_pattern", ""),
            ("let_condition", "pattern"),
        ],
        reads: &[
            "binary_expression", "range_expression", "type_cast_expression", "if_expression", "while_expression",
            "parenthesized_expression", "reference_expression",
        ],
        values: &[
            "integer_literal", "float_literal", "string_literal", "char_literal", "boolean_literal",
            "string_content", "escape_sequence", "tuple_expression", "array_expression", "binary_expression",
            "unary_expression", "reference_expression", "parenthesized_expression", "range_expression",
            "type_cast_expression", "closure_expression", "closure_parameters", "field_identifier", "arguments",
            "scoped_identifier", "primitive_type", "type_identifier", "tuple_pattern", "reference_pattern",
            "raw_string_literal", "generic_function", "type_arguments", "generic_type", "scoped_type_identifier",
            "inner_attribute_item",
        ],
        labels: &[
            ("field_expression", "field"),
            ("scoped_identifier", "path"),
            ("field_initializer", "field"),
        ],
        pure: &["Some", "Ok", "Err", "String::from", "min", "max"],
        looks: &[
            "len", "iter", "contains", "contains_key", "get", "first", "last", "is_empty", "as_str", "as_ref",
            "as_slice", "chars", "bytes", "char_indices", "lines", "split", "split_whitespace", "trim",
            "starts_with", "ends_with", "to_string", "to_owned", "clone", "abs", "min", "max", "pow", "keys",
            "values", "find", "is_some", "is_none", "is_ok", "is_err", "to_lowercase", "to_uppercase", "windows",
            "chunks", "cmp", "eq", "partial_cmp", "unwrap_or_default", "is_alphabetic", "is_numeric",
            "is_ascii_digit", "is_whitespace", "count_ones", "as_bytes", "cloned", "copied", "wrapping_mul",
            "wrapping_add", "saturating_sub",
        ],
        declares: &[
            ["let_declaration", "pattern", "type", "value"],
            ["parameter", "pattern", "type", ""],
            ["const_item", "name", "type", "value"],
            ["static_item", "name", "type", "value"],
        ],
        imports: &["use_declaration"],
        statements: &["block", "source_file"],
    },
    Grammar {
        languages: &["javascript", "typescript", "tsx"],
        names: &[
            "identifier", "shorthand_property_identifier", "shorthand_property_identifier_pattern",
        ],
        loops: &[
            ("for_statement", "body"),
            ("for_statement", "condition"),
            ("for_in_statement", "body"),
            ("while_statement", "body"),
            ("while_statement", "condition"),
            ("do_statement", "body"),
        ],
        iterables: &[("for_in_statement", "right")],
        functions: &[
            "function_declaration", "function_expression", "method_definition", "generator_function_declaration",
            "generator_function",
        ],
        calls: &[("call_expression", "function", "arguments")],
        members: &[("member_expression", "object", "property")],
        elements: &[("subscript_expression", "object")],
        assigns: &[
            ("assignment_expression", "left"),
            ("augmented_assignment_expression", "left"),
            ("update_expression", "argument"),
            ("for_in_statement", "left"),
            ("variable_declarator", "name"),
            ("formal_parameters", ""),
            ("required_parameter", "pattern"),
            ("optional_parameter", "pattern"),
            ("arrow_function", "parameter"),
            ("assignment_pattern", "left"),
            ("namespace_import", ""),
            ("catch_clause", "parameter"),
            ("generator_function_declaration", "name"),
            ("function_expression", "name"),
            ("function_declaration", "name"),
            ("class_declaration", "name"),
            ("import_specifier", ""),
            ("import_clause", ""),
        ],
        reads: &[
            "binary_expression", "unary_expression", "ternary_expression", "if_statement", "while_statement",
            "parenthesized_expression", "template_substitution",
        ],
        values: &[
            "number", "string", "template_string", "true", "false", "null", "undefined", "array", "object", "pair",
            "binary_expression", "unary_expression", "ternary_expression", "parenthesized_expression", "arguments",
            "string_fragment", "escape_sequence", "template_substitution", "property_identifier", "arrow_function",
            "formal_parameters", "spread_element", "regex", "regex_pattern", "regex_flags", "required_parameter",
        ],
        labels: &[],
        pure: &[
            "Number", "String", "Boolean", "parseInt", "parseFloat", "isNaN", "Math.abs", "Math.min", "Math.max",
            "Math.floor", "Math.ceil", "Math.sqrt", "Math.round", "Math.trunc", "Object.keys", "Object.values",
            "Object.entries", "Array.isArray", "Array.from",
        ],
        looks: &[
            "includes", "indexOf", "lastIndexOf", "slice", "concat", "join", "filter", "map", "some", "every",
            "find", "findIndex", "reduce", "forEach", "has", "get", "keys", "values", "entries", "charAt",
            "charCodeAt", "startsWith", "endsWith", "split", "trim", "toLowerCase", "toUpperCase", "substring",
            "at", "flat", "flatMap", "toString", "padStart", "padEnd", "repeat", "codePointAt", "toFixed",
            "trimEnd", "trimStart",
        ],
        declares: &[
            ["variable_declarator", "name", "type", "value"],
            ["required_parameter", "pattern", "type", "value"],
            ["optional_parameter", "pattern", "type", "value"],
            ["assignment_expression", "left", "", "right"],
            ["for_in_statement", "left", "", ""],
        ],
        imports: &["import_statement"],
        statements: &["statement_block", "program", "switch_case"],
    },
    Grammar {
        languages: &["go"],
        names: &["identifier"],
        loops: &[("for_statement", "body"), ("for_clause", "condition"), ("for_clause", "update")],
        iterables: &[("range_clause", "right")],
        functions: &["function_declaration", "method_declaration", "func_literal"],
        calls: &[("call_expression", "function", "arguments")],
        members: &[("selector_expression", "operand", "field")],
        elements: &[("index_expression", "operand")],
        assigns: &[
            ("short_var_declaration", "left"),
            ("assignment_statement", "left"),
            ("range_clause", "left"),
            ("inc_statement", ""),
            ("dec_statement", ""),
            ("var_spec", "name"),
            ("parameter_declaration", "name"),
            ("const_spec", "name"),
        ],
        reads: &["binary_expression", "if_statement", "parenthesized_expression", "for_statement"],
        values: &[
            "int_literal", "float_literal", "interpreted_string_literal", "raw_string_literal", "rune_literal",
            "true", "false", "nil", "binary_expression", "unary_expression", "parenthesized_expression",
            "argument_list", "field_identifier", "interpreted_string_literal_content", "escape_sequence",
            "raw_string_literal_content", "type_identifier", "type_conversion_expression", "slice_type",
            "package_identifier",
        ],
        labels: &[("keyed_element", "")],
        pure: &[
            "len", "cap", "min", "max", "string", "int", "int64", "float64", "byte", "rune", "strconv.Itoa",
            "strings.ToLower", "strings.ToUpper", "strings.TrimSpace", "strings.Contains", "strings.HasPrefix",
            "strings.HasSuffix", "strings.Repeat", "math.Sqrt", "math.Abs",
        ],
        looks: &["String", "Len", "Error"],
        declares: &[
            ["parameter_declaration", "name", "type", ""],
            ["var_spec", "name", "type", "value"],
            ["short_var_declaration", "left", "", "right"],
            ["range_clause", "left", "", ""],
            ["receive_statement", "left", "", ""],
        ],
        imports: &["import_declaration", "package_clause"],
        statements: &["block", "source_file", "statement_list"],
    },
    Grammar {
        languages: &["cpp"],
        names: &["identifier"],
        loops: &[
            ("for_range_loop", "body"),
            ("for_statement", "body"),
            ("for_statement", "condition"),
            ("for_statement", "update"),
            ("while_statement", "body"),
            ("while_statement", "condition"),
            ("do_statement", "body"),
        ],
        iterables: &[("for_range_loop", "right")],
        functions: &["function_definition", "lambda_expression"],
        calls: &[("call_expression", "function", "arguments")],
        members: &[("field_expression", "argument", "field")],
        elements: &[("subscript_expression", "argument")],
        assigns: &[
            ("assignment_expression", "left"),
            ("update_expression", "argument"),
            ("init_declarator", "declarator"),
            ("declaration", "declarator"),
            ("for_range_loop", "declarator"),
            ("parameter_declaration", "declarator"),
            ("pointer_expression", ""),
            ("lambda_capture_specifier", ""),
        ],
        reads: &[
            "binary_expression", "condition_clause", "conditional_expression", "parenthesized_expression",
            "if_statement",
        ],
        values: &[
            "number_literal", "string_literal", "char_literal", "character", "subscript_argument_list", "true",
            "false", "null", "string_content", "escape_sequence", "binary_expression", "unary_expression",
            "conditional_expression", "cast_expression", "parenthesized_expression", "argument_list",
            "field_identifier", "qualified_identifier", "namespace_identifier", "primitive_type",
            "type_identifier", "sized_type_specifier", "type_descriptor",
        ],
        labels: &[("field_initializer", ""), ("qualified_identifier", "name")],
        pure: &["std::min", "std::max", "std::abs", "std::to_string", "std::sqrt"],
        looks: &[
            "size", "length", "empty", "begin", "end", "cbegin", "cend", "find", "count", "at",
            "front", "back", "substr", "c_str", "data", "compare", "rfind", "contains", "str",
            "capacity", "first", "second",
        ],
        declares: &[
            ["declaration", "declarator", "type", ""],
            ["parameter_declaration", "declarator", "type", ""],
            ["for_range_loop", "declarator", "type", ""],
        ],
        imports: &["preproc_include"],
        statements: &["compound_statement", "translation_unit", "case_statement"],
    },
];
