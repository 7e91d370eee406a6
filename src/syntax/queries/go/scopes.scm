(function_declaration name: (_) @name body: (_)? @body) @function
(method_declaration name: (_) @name body: (_)? @body) @function
(type_declaration (type_spec name: (_) @name type: (struct_type (_) @body))) @class
(type_declaration (type_spec name: (_) @name type: (interface_type))) @class
(type_declaration (type_spec name: (_) @name)) @other
(type_declaration (type_alias name: (_) @name)) @other
(const_declaration (const_spec name: (identifier) @name)) @other
(source_file (var_declaration (var_spec name: (_) @name)) @other)

(func_literal body: (_) @body) @block
(if_statement consequence: (_) @body) @block
(for_statement body: (_) @body) @block
(expression_switch_statement) @block
(type_switch_statement) @block
(select_statement) @block
(expression_case) @block
(type_case) @block
(communication_case) @block
(default_case) @block
