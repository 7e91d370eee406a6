(function_definition
  declarator: [
    (function_declarator declarator: (_) @name)
    (_ (function_declarator declarator: (_) @name))
    (_ (_ (function_declarator declarator: (_) @name)))
  ]
  body: (_) @body) @function
(function_definition body: (_) @body) @function
(struct_specifier name: (_)? @name body: (_) @body) @class
(union_specifier name: (_)? @name body: (_) @body) @class
(enum_specifier name: (_)? @name body: (_) @body) @class
(translation_unit (declaration (function_declarator declarator: (_) @name)) @function)
(type_definition declarator: (type_identifier) @name) @other
(preproc_def name: (_) @name) @other
(preproc_function_def name: (_) @name) @other

(if_statement consequence: (compound_statement) @body) @block
(else_clause (compound_statement) @body) @block
(for_statement body: (_) @body) @block
(while_statement body: (_) @body) @block
(do_statement body: (_) @body) @block
(switch_statement body: (_) @body) @block
(case_statement) @block
