"""The JSON Schema of recipes for editors, with the options of every installed pass."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fyc.recipe.schema import Recipe

if TYPE_CHECKING:
    from fyc.plugins import PluginHost


def recipe_schema(host: PluginHost) -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of a recipe; `passes[].options` depends on `passes[].use`.

    `model` is not required here: `--model` may give it.
    """
    schema = Recipe.model_json_schema(by_alias=True)
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "fyc recipe", **schema}
    definitions = schema["$defs"]
    schema["required"].remove("model")
    use = definitions["PassUse"]
    use["properties"]["use"] = {**use["properties"]["use"], "enum": list(host.passes)}
    use["allOf"] = []
    for name, registered in host.passes.items():
        options = registered.cls.Options.model_json_schema(ref_template=f"#/$defs/{name}.{{model}}")
        for inner, definition in options.pop("$defs", {}).items():
            definitions[f"{name}.{inner}"] = definition
        definitions[name] = options
        use["allOf"].append(
            {
                "if": {"properties": {"use": {"const": name}}},
                "then": {"properties": {"options": {"$ref": f"#/$defs/{name}"}}},
            }
        )
    return schema
