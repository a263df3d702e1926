//! What bake files say, as written: blocks by name, later files over earlier ones.

use super::{
    BakeError, compose,
    evaluate::{OwnFunction, Source},
};
use hcl::{Body, Expression, Structure, expr::TemplateExpr};
use serde_json::Value;
use std::collections::BTreeMap;

/// The attributes of a block.
pub(super) type Attributes = BTreeMap<String, Source>;

/// A rule that a variable's value keeps.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    pub(super) condition: Source,
    pub(super) message: Option<Source>,
}

/// A variable.
#[derive(Clone, Debug, Default)]
pub(super) struct VariableBlock {
    pub(super) default: Option<Source>,
    /// Its type as written: `string`, `list(number)`.
    pub(super) kind: Option<String>,
    pub(super) description: Option<String>,
    pub(super) rules: Vec<Rule>,
}

/// All files.
#[derive(Clone, Debug, Default)]
pub(crate) struct Definition {
    pub(super) variables: BTreeMap<String, VariableBlock>,
    /// Names at the top of a file, which stand for values too.
    pub(super) globals: BTreeMap<String, Source>,
    pub(super) functions: BTreeMap<String, OwnFunction>,
    pub(super) groups: BTreeMap<String, Vec<Attributes>>,
    /// Each target's blocks, in the order of the files.
    pub(super) targets: BTreeMap<String, Vec<Attributes>>,
    /// In the order in which they were first named.
    pub(super) order: Vec<String>,
}

impl Definition {
    /// Adds a file. Its name says its language; one that says nothing is tried as JSON, then as HCL.
    ///
    /// # Errors
    /// When it is not of its language.
    pub(crate) fn add(
        &mut self,
        name: &str,
        text: &str,
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> Result<(), BakeError> {
        let syntax = |words: String| BakeError::Syntax { file: name.to_owned(), words };
        let base = name.rsplit('/').next().unwrap_or(name);
        let json = || serde_json::from_str::<Value>(text).map_err(|error| syntax(error.to_string()));
        match base.rsplit_once('.').map(|(_, kind)| kind) {
            Some("yaml" | "yml") => {
                let read: Value =
                    serde_saphyr::from_str(text).map_err(|error| syntax(first_line(&error.to_string())))?;
                compose::add(self, &read, environment).map_err(|error| error.at(name))
            }
            Some("json") => self.add_json(&json()?).map_err(|error| error.at(name)),
            Some("hcl") => self.add_hcl(name, text),
            _ if text.trim_start().starts_with('{') => {
                self.add_json(&json()?).map_err(|error| error.at(name))
            }
            _ => self.add_hcl(name, text),
        }
    }

    fn add_hcl(&mut self, name: &str, text: &str) -> Result<(), BakeError> {
        let body: Body = hcl::parse(text)
            .map_err(|error| BakeError::Syntax { file: name.to_owned(), words: error.to_string() })?;
        for structure in body {
            match structure {
                Structure::Attribute(attribute) => {
                    self.globals.insert(attribute.key.to_string(), Source::Expression(attribute.expr));
                }
                Structure::Block(block) => {
                    let labels: Vec<&str> = block.labels.iter().map(hcl::BlockLabel::as_str).collect();
                    let kind = block.identifier.as_str();
                    let [label] = labels.as_slice() else {
                        let words = format!("a block `{kind}` has one name");
                        return Err(BakeError::Syntax { file: name.to_owned(), words });
                    };
                    let label = (*label).to_owned();
                    self.add_block(kind, &label, block.body).map_err(|error| error.at(name))?;
                }
            }
        }
        Ok(())
    }

    fn add_block(&mut self, kind: &str, label: &str, body: Body) -> Result<(), BakeError> {
        let mut attributes = Attributes::new();
        let mut rules = Vec::new();
        for structure in body {
            match structure {
                Structure::Attribute(attribute) => {
                    attributes.insert(attribute.key.to_string(), Source::Expression(attribute.expr));
                }
                Structure::Block(inner)
                    if kind == "variable" && inner.identifier.as_str() == "validation" =>
                {
                    let mut own: Attributes = inner
                        .body
                        .into_attributes()
                        .map(|attribute| (attribute.key.to_string(), Source::Expression(attribute.expr)))
                        .collect();
                    rules.extend(
                        own.remove("condition")
                            .map(|condition| Rule { condition, message: own.remove("error_message") }),
                    );
                }
                Structure::Block(inner) => {
                    let words = format!("`{kind}` \"{label}\" has no block `{}`", inner.identifier);
                    return Err(BakeError::Expression(words));
                }
            }
        }
        self.put(kind, label, attributes, rules)
    }

    fn put(
        &mut self,
        kind: &str,
        label: &str,
        mut attributes: Attributes,
        rules: Vec<Rule>,
    ) -> Result<(), BakeError> {
        match kind {
            "target" => self.add_target(label, attributes),
            "group" => {
                self.groups.entry(label.to_owned()).or_default().push(attributes);
                Ok(())
            }
            "variable" => {
                let block = self.variables.entry(label.to_owned()).or_default();
                block.default = attributes.remove("default").or(block.default.take());
                block.kind = attributes.remove("type").map(|kind| written(&kind)).or(block.kind.take());
                block.description =
                    attributes.remove("description").map(|text| written(&text)).or(block.description.take());
                block.rules.extend(rules);
                none_left("variable", label, &attributes)
            }
            "function" => {
                let names = |source: Option<Source>| match source {
                    Some(Source::Expression(Expression::Array(items))) => items.iter().map(name_of).collect(),
                    Some(Source::Known(Value::Array(items))) => {
                        Ok(items.iter().filter_map(|item| Some(item.as_str()?.to_owned())).collect())
                    }
                    _ => Ok(Vec::new()),
                };
                let rest = attributes.remove("variadic_params").map(|source| match source {
                    Source::Expression(expression) => name_of(&expression),
                    Source::Known(value) => Ok(value.as_str().unwrap_or_default().to_owned()),
                });
                let parameters = names(attributes.remove("params"))?;
                let result = match attributes.remove("result") {
                    Some(Source::Expression(expression)) => expression,
                    Some(Source::Known(value)) => template(value.as_str().unwrap_or_default()),
                    None => {
                        let words = format!("the function `{label}` has no `result`");
                        return Err(BakeError::Expression(words));
                    }
                };
                self.functions
                    .insert(label.to_owned(), OwnFunction { parameters, rest: rest.transpose()?, result });
                none_left("function", label, &attributes)
            }
            other => Err(BakeError::Expression(format!(
                "there is no block `{other}`: there are target, group, variable and function"
            ))),
        }
    }

    pub(super) fn add_target(&mut self, label: &str, attributes: Attributes) -> Result<(), BakeError> {
        let valid = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
        if label.is_empty() || !label.chars().all(valid) {
            let words = format!("`{label}` is no name of a target: it has letters, digits, `-` and `_`");
            return Err(BakeError::Expression(words));
        }
        if !self.order.iter().any(|known| known == label) {
            self.order.push(label.to_owned());
        }
        self.targets.entry(label.to_owned()).or_default().push(attributes);
        Ok(())
    }

    /// HCL's JSON form: blocks are objects by name, texts are templates.
    fn add_json(&mut self, json: &Value) -> Result<(), BakeError> {
        let Value::Object(top) = json else {
            return Err(BakeError::Expression("it is no object".to_owned()));
        };
        for (kind, named) in top {
            match (kind.as_str(), named) {
                ("target" | "group" | "variable" | "function", Value::Object(named)) => {
                    for (label, body) in named {
                        let Value::Object(body) = body else {
                            return Err(BakeError::Expression(format!("{kind} `{label}` is no object")));
                        };
                        let mut rules = Vec::new();
                        let mut attributes = Attributes::new();
                        for (key, value) in body {
                            match key.as_str() {
                                "validation" => rules.extend(json_rules(value)),
                                "type" | "description" | "params" | "variadic_params" => {
                                    attributes.insert(key.clone(), Source::Known(value.clone()));
                                }
                                _ => drop(attributes.insert(key.clone(), of_json(value))),
                            }
                        }
                        self.put(kind, label, attributes, rules)?;
                    }
                }
                _ => drop(self.globals.insert(kind.clone(), of_json(named))),
            }
        }
        Ok(())
    }
}

fn json_rules(value: &Value) -> Vec<Rule> {
    let all = match value {
        Value::Array(all) => all.clone(),
        one => vec![one.clone()],
    };
    let rule = |value: &Value| {
        let condition = of_json(value.get("condition")?);
        Some(Rule { condition, message: value.get("error_message").map(of_json) })
    };
    all.iter().filter_map(rule).collect()
}

/// A value of a JSON file, whose texts are templates.
pub(super) fn of_json(value: &Value) -> Source {
    fn expression(value: &Value) -> Expression {
        match value {
            Value::String(text) if text.contains("${") || text.contains("%{") => template(text),
            Value::String(text) => Expression::String(text.clone()),
            Value::Array(items) => Expression::Array(items.iter().map(expression).collect()),
            Value::Object(map) => {
                let key = |key: &String| hcl::expr::ObjectKey::from(Expression::String(key.clone()));
                Expression::Object(map.iter().map(|(name, value)| (key(name), expression(value))).collect())
            }
            Value::Bool(value) => Expression::Bool(*value),
            Value::Number(number) => number
                .as_i64()
                .map(Expression::from)
                .or(number.as_f64().map(Expression::from))
                .unwrap_or(Expression::Null),
            Value::Null => Expression::Null,
        }
    }
    Source::Expression(expression(value))
}

fn template(text: &str) -> Expression {
    Expression::TemplateExpr(Box::new(TemplateExpr::QuotedString(text.to_owned())))
}

/// A name that stands for itself: `params = [a, b]`.
fn name_of(expression: &Expression) -> Result<String, BakeError> {
    match expression {
        Expression::Variable(name) => Ok(name.to_string()),
        Expression::String(name) => Ok(name.clone()),
        _ => Err(BakeError::Expression("a parameter is a name".to_owned())),
    }
}

/// An expression as text: types are written like calls, descriptions are texts.
fn written(source: &Source) -> String {
    match source {
        Source::Known(value) => value.as_str().map_or_else(|| value.to_string(), str::to_owned),
        Source::Expression(Expression::String(text)) => text.clone(),
        Source::Expression(Expression::Variable(name)) => name.to_string(),
        Source::Expression(expression) => hcl::format::to_string(expression).unwrap_or_default(),
    }
}

fn none_left(kind: &str, label: &str, attributes: &Attributes) -> Result<(), BakeError> {
    match attributes.keys().next() {
        None => Ok(()),
        Some(key) => Err(BakeError::Expression(format!("the {kind} `{label}` has no attribute `{key}`"))),
    }
}

pub(super) fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}
