(method_declaration name: (_) @name body: (_)? @body) @function
(constructor_declaration name: (_) @name body: (_) @body) @function
(compact_constructor_declaration name: (_) @name body: (_) @body) @function
(annotation_type_element_declaration name: (_) @name) @function
(class_declaration name: (_) @name body: (_) @body) @class
(interface_declaration name: (_) @name body: (_) @body) @class
(enum_declaration name: (_) @name body: (_) @body) @class
(record_declaration name: (_) @name body: (_) @body) @class
(annotation_type_declaration name: (_) @name body: (_) @body) @class
(module_declaration name: (_) @name body: (_) @body) @module
(field_declaration declarator: (variable_declarator name: (_) @name)) @other
(constant_declaration declarator: (variable_declarator name: (_) @name)) @other
(enum_constant name: (_) @name) @other

(object_creation_expression (class_body) @body) @block
(lambda_expression body: (block) @body) @block
(static_initializer (block) @body) @block
(if_statement consequence: (block) @body) @block
(if_statement alternative: (block) @body) @block
(for_statement body: (_) @body) @block
(enhanced_for_statement body: (_) @body) @block
(while_statement body: (_) @body) @block
(do_statement body: (_) @body) @block
(switch_expression body: (_) @body) @block
(switch_block_statement_group) @block
(switch_rule (block) @body) @block
(try_statement body: (_) @body) @block
(try_with_resources_statement body: (_) @body) @block
(catch_clause body: (_) @body) @block
(finally_clause (block) @body) @block
(synchronized_statement body: (_) @body) @block
