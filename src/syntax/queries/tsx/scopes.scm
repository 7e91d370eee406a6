(function_declaration name: (_) @name body: (_) @body) @function
(generator_function_declaration name: (_) @name body: (_) @body) @function
(method_definition name: (_) @name body: (_) @body) @function
(lexical_declaration
  (variable_declarator name: (identifier) @name
    value: [(arrow_function body: (_) @body) (function_expression body: (_) @body)])) @function
(class_declaration name: (_) @name body: (_) @body) @class
(class body: (_) @body) @class
(public_field_definition name: (_) @name) @other
(program (lexical_declaration (variable_declarator name: (identifier) @name)) @other)
(program (export_statement (lexical_declaration (variable_declarator name: (identifier) @name)) @other))
(abstract_class_declaration name: (_) @name body: (_) @body) @class
(interface_declaration name: (_) @name body: (_) @body) @class
(enum_declaration name: (_) @name body: (_) @body) @class
(internal_module name: (_) @name body: (_)? @body) @module
(module name: (_) @name body: (_)? @body) @module
(type_alias_declaration name: (_) @name) @other
(function_signature name: (_) @name) @function
(abstract_method_signature name: (_) @name) @function
(method_signature name: (_) @name) @function
(property_signature name: (_) @name) @other

(arrow_function body: (statement_block) @body) @block
(function_expression body: (_) @body) @block
(if_statement consequence: (statement_block) @body) @block
(else_clause (statement_block) @body) @block
(for_statement body: (_) @body) @block
(for_in_statement body: (_) @body) @block
(while_statement body: (_) @body) @block
(do_statement body: (_) @body) @block
(switch_statement body: (_) @body) @block
(try_statement body: (_) @body) @block
(catch_clause body: (_) @body) @block
(finally_clause body: (_) @body) @block
(class_static_block body: (_) @body) @block
