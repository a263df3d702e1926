//! Expressions of bake files: values, variables that are worked out when they are asked for, functions.
//!
//! The grammar is HCL's, read by `hcl-rs`; what an expression means is worked out here, because variables and functions of a file
//! refer to one another in any order, and a file is somebody else's: depth, length and count of what comes out are bounded.

use super::{BakeError, functions};
use hcl::{
    Expression,
    expr::{
        BinaryOperator, ForExpr, FuncCall, ObjectKey, Operation, TemplateExpr, TraversalOperator,
        UnaryOperator,
    },
    template::{Directive, Element, Template},
};
use serde_json::{Map, Value};
use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
};

/// Most expressions within one another, functions that call themselves included.
const DEPTH: usize = 64;
/// Most expressions that one file has worked out.
const STEPS: usize = 1_000_000;
/// Most bytes of one text.
const TEXT_BYTES: usize = 16 << 20;

/// What a value is or comes from.
#[derive(Clone, Debug)]
pub(super) enum Source {
    /// It is known.
    Known(Value),
    /// It is what the expression comes to.
    Expression(Expression),
}

/// A function of the file's own.
#[derive(Clone, Debug)]
pub(super) struct OwnFunction {
    pub(super) parameters: Vec<String>,
    /// What further arguments are called, as a list.
    pub(super) rest: Option<String>,
    pub(super) result: Expression,
}

/// Names and what they stand for.
#[derive(Default)]
pub(super) struct Scope {
    pub(super) variables: BTreeMap<String, Source>,
    pub(super) functions: BTreeMap<String, OwnFunction>,
    known: RefCell<BTreeMap<String, Value>>,
    /// Variables that are being worked out: one that needs itself has no value.
    open: RefCell<BTreeSet<String>>,
    depth: Cell<usize>,
    steps: Cell<usize>,
}

/// Names of one place: parameters of a function, of a `for`, of a matrix.
pub(super) type Local = BTreeMap<String, Value>;

fn failed<T>(words: impl Into<String>) -> Result<T, BakeError> {
    Err(BakeError::Expression(words.into()))
}

impl Scope {
    /// The value of a variable.
    pub(super) fn variable(&self, name: &str) -> Result<Value, BakeError> {
        if let Some(value) = self.known.borrow().get(name) {
            return Ok(value.clone());
        }
        let value = match self.variables.get(name) {
            None => return failed(format!("there is no variable `{name}`")),
            Some(Source::Known(value)) => value.clone(),
            Some(Source::Expression(expression)) => {
                if !self.open.borrow_mut().insert(name.to_owned()) {
                    return failed(format!("the variable `{name}` needs its own value"));
                }
                let value = self.value(expression, &Local::new());
                self.open.borrow_mut().remove(name);
                value?
            }
        };
        self.known.borrow_mut().insert(name.to_owned(), value.clone());
        Ok(value)
    }

    /// Gives a variable a value.
    pub(super) fn set(&mut self, name: &str, value: Value) {
        self.variables.insert(name.to_owned(), Source::Known(value));
        // what was worked out with its old value
        self.known.borrow_mut().clear();
    }

    /// What a source comes to.
    pub(super) fn source(&self, source: &Source, local: &Local) -> Result<Value, BakeError> {
        match source {
            Source::Known(value) => Ok(value.clone()),
            Source::Expression(expression) => self.value(expression, local),
        }
    }

    /// What an expression comes to.
    pub(super) fn value(&self, expression: &Expression, local: &Local) -> Result<Value, BakeError> {
        self.steps.set(self.steps.get() + 1);
        if self.depth.get() >= DEPTH || self.steps.get() > STEPS {
            return failed("an expression is too deep or too long");
        }
        self.depth.set(self.depth.get() + 1);
        let value = self.value_within(expression, local);
        self.depth.set(self.depth.get() - 1);
        if let Ok(Value::String(text)) = &value
            && text.len() > TEXT_BYTES
        {
            return failed("a text is too long");
        }
        value
    }

    fn value_within(&self, expression: &Expression, local: &Local) -> Result<Value, BakeError> {
        match expression {
            Expression::Null => Ok(Value::Null),
            Expression::Bool(value) => Ok(Value::Bool(*value)),
            Expression::Number(number) => Ok(number_of(number)),
            Expression::String(text) => Ok(Value::String(text.clone())),
            Expression::Array(items) => items
                .iter()
                .map(|item| self.value(item, local))
                .collect::<Result<Vec<_>, _>>()
                .map(Value::Array),
            Expression::Object(object) => {
                let mut map = Map::new();
                for (key, value) in object {
                    let key = match key {
                        ObjectKey::Identifier(name) => name.to_string(),
                        ObjectKey::Expression(key) => text_of(&self.value(key, local)?)?,
                        _ => return failed("a key that is not known"),
                    };
                    map.insert(key, self.value(value, local)?);
                }
                Ok(Value::Object(map))
            }
            Expression::TemplateExpr(template) => self.template_expression(template, local),
            Expression::Variable(name) => self.named(name.as_str(), local),
            Expression::Traversal(traversal) => {
                let mut value = self.value(&traversal.expr, local)?;
                let mut operators = traversal.operators.iter();
                while let Some(operator) = operators.next() {
                    value = match operator {
                        TraversalOperator::AttrSplat | TraversalOperator::FullSplat => {
                            let items = match value {
                                Value::Array(items) => items,
                                Value::Null => Vec::new(),
                                other => vec![other],
                            };
                            let rest: Vec<&TraversalOperator> = operators.by_ref().collect();
                            let one = |item| {
                                rest.iter().try_fold(item, |item, operator| self.step(item, operator, local))
                            };
                            Value::Array(items.into_iter().map(one).collect::<Result<_, _>>()?)
                        }
                        operator => self.step(value, operator, local)?,
                    };
                }
                Ok(value)
            }
            Expression::FuncCall(call) => self.call(call, local),
            Expression::Parenthesis(inner) => self.value(inner, local),
            Expression::Conditional(conditional) => {
                match truth_of(&self.value(&conditional.cond_expr, local)?)? {
                    true => self.value(&conditional.true_expr, local),
                    false => self.value(&conditional.false_expr, local),
                }
            }
            Expression::Operation(operation) => self.operation(operation, local),
            Expression::ForExpr(of) => self.for_expression(of, local),
            _ => failed("an expression that is not known"),
        }
    }

    fn named(&self, name: &str, local: &Local) -> Result<Value, BakeError> {
        local.get(name).map_or_else(|| self.variable(name), |value| Ok(value.clone()))
    }

    fn step(&self, value: Value, operator: &TraversalOperator, local: &Local) -> Result<Value, BakeError> {
        let key = match operator {
            TraversalOperator::GetAttr(name) => Value::String(name.to_string()),
            TraversalOperator::Index(index) => self.value(index, local)?,
            TraversalOperator::LegacyIndex(index) => Value::from(*index),
            _ => return failed("one `*` after another"),
        };
        functions::element(&value, &key)
    }

    fn call(&self, call: &FuncCall, local: &Local) -> Result<Value, BakeError> {
        let name = call.name.name.as_str();
        // these look at whether something can be worked out
        match name {
            "try" => {
                let mut last = BakeError::Expression("`try` has no argument".to_owned());
                for argument in &call.args {
                    match self.value(argument, local) {
                        Ok(value) => return Ok(value),
                        Err(error) => last = error,
                    }
                }
                return Err(last);
            }
            "can" => {
                return Ok(Value::Bool(call.args.iter().all(|argument| self.value(argument, local).is_ok())));
            }
            _ => {}
        }
        let mut arguments =
            call.args.iter().map(|argument| self.value(argument, local)).collect::<Result<Vec<_>, _>>()?;
        if call.expand_final {
            match arguments.pop() {
                Some(Value::Array(items)) => arguments.extend(items),
                _ => return failed(format!("`{name}(...)`: what stands before `...` is a list")),
            }
        }
        if let Some(own) = self.functions.get(name) {
            return self.call_own(name, own, arguments);
        }
        functions::call(name, &arguments)
    }

    fn call_own(&self, name: &str, own: &OwnFunction, mut arguments: Vec<Value>) -> Result<Value, BakeError> {
        let count = own.parameters.len();
        if arguments.len() < count || (arguments.len() > count && own.rest.is_none()) {
            return failed(format!("`{name}` takes {count} arguments, not {}", arguments.len()));
        }
        let rest = arguments.split_off(count);
        let mut local: Local = own.parameters.iter().cloned().zip(arguments).collect();
        local.extend(own.rest.clone().map(|name| (name, Value::Array(rest))));
        self.value(&own.result, &local)
    }

    fn operation(&self, operation: &Operation, local: &Local) -> Result<Value, BakeError> {
        use BinaryOperator::{
            And, Div, Eq, Greater, GreaterEq, Less, LessEq, Minus, Mod, Mul, NotEq, Or, Plus,
        };
        match operation {
            Operation::Unary(unary) => {
                let value = self.value(&unary.expr, local)?;
                match unary.operator {
                    UnaryOperator::Not => Ok(Value::Bool(!truth_of(&value)?)),
                    UnaryOperator::Neg => functions::number(-functions::float(&value)?),
                }
            }
            Operation::Binary(binary) => {
                let left = self.value(&binary.lhs_expr, local)?;
                match binary.operator {
                    And if !truth_of(&left)? => return Ok(Value::Bool(false)),
                    Or if truth_of(&left)? => return Ok(Value::Bool(true)),
                    _ => {}
                }
                let right = self.value(&binary.rhs_expr, local)?;
                let numbers = || Ok::<_, BakeError>((functions::float(&left)?, functions::float(&right)?));
                match binary.operator {
                    And | Or => truth_of(&right).map(Value::Bool),
                    Eq => Ok(Value::Bool(functions::equal(&left, &right))),
                    NotEq => Ok(Value::Bool(!functions::equal(&left, &right))),
                    Less => numbers().map(|(a, b)| Value::Bool(a < b)),
                    LessEq => numbers().map(|(a, b)| Value::Bool(a <= b)),
                    Greater => numbers().map(|(a, b)| Value::Bool(a > b)),
                    GreaterEq => numbers().map(|(a, b)| Value::Bool(a >= b)),
                    Plus => numbers().and_then(|(a, b)| functions::number(a + b)),
                    Minus => numbers().and_then(|(a, b)| functions::number(a - b)),
                    Mul => numbers().and_then(|(a, b)| functions::number(a * b)),
                    Div => numbers().and_then(|(a, b)| functions::number(a / b)),
                    Mod => numbers().and_then(|(a, b)| functions::number(a % b)),
                }
            }
        }
    }

    fn for_expression(&self, of: &ForExpr, local: &Local) -> Result<Value, BakeError> {
        let pairs = pairs(self.value(&of.collection_expr, local)?)?;
        let (mut list, mut map) = (Vec::new(), Map::new());
        for (key, value) in pairs {
            let mut inner = local.clone();
            if let Some(name) = &of.key_var {
                inner.insert(name.to_string(), key);
            }
            inner.insert(of.value_var.to_string(), value);
            if let Some(condition) = &of.cond_expr
                && !truth_of(&self.value(condition, &inner)?)?
            {
                continue;
            }
            let value = self.value(&of.value_expr, &inner)?;
            match &of.key_expr {
                None => list.push(value),
                Some(key) => {
                    let key = text_of(&self.value(key, &inner)?)?;
                    match (of.grouping, map.get_mut(&key)) {
                        (true, Some(Value::Array(items))) => items.push(value),
                        (true, _) => drop(map.insert(key, Value::Array(vec![value]))),
                        (false, Some(_)) => return failed(format!("`for` gives the key `{key}` twice")),
                        (false, None) => drop(map.insert(key, value)),
                    }
                }
            }
        }
        Ok(if of.key_expr.is_some() { Value::Object(map) } else { Value::Array(list) })
    }

    fn template_expression(&self, template: &TemplateExpr, local: &Local) -> Result<Value, BakeError> {
        let template =
            Template::from_expr(template).map_err(|error| BakeError::Expression(error.to_string()))?;
        // one interpolation alone keeps its type
        if let [Element::Interpolation(only)] = template.elements() {
            return self.value(&only.expr, local);
        }
        self.text(&template, local).map(Value::String)
    }

    /// The text of a template in which `${...}` stands for values.
    pub(super) fn text(&self, template: &Template, local: &Local) -> Result<String, BakeError> {
        let mut text = String::new();
        for element in template.elements() {
            match element {
                Element::Literal(literal) => text.push_str(literal),
                Element::Interpolation(inner) => text.push_str(&text_of(&self.value(&inner.expr, local)?)?),
                Element::Directive(directive) => match &**directive {
                    Directive::If(chosen) => {
                        let part = match truth_of(&self.value(&chosen.cond_expr, local)?)? {
                            true => Some(&chosen.true_template),
                            false => chosen.false_template.as_ref(),
                        };
                        if let Some(part) = part {
                            text.push_str(&self.text(part, local)?);
                        }
                    }
                    Directive::For(each) => {
                        for (key, value) in pairs(self.value(&each.collection_expr, local)?)? {
                            let mut inner = local.clone();
                            if let Some(name) = &each.key_var {
                                inner.insert(name.to_string(), key);
                            }
                            inner.insert(each.value_var.to_string(), value);
                            text.push_str(&self.text(&each.template, &inner)?);
                        }
                    }
                },
            }
            if text.len() > TEXT_BYTES {
                return failed("a text is too long");
            }
        }
        Ok(text)
    }
}

/// Keys and values of a list or object.
fn pairs(value: Value) -> Result<Vec<(Value, Value)>, BakeError> {
    match value {
        Value::Array(items) => {
            Ok(items.into_iter().enumerate().map(|(at, item)| (Value::from(at), item)).collect())
        }
        Value::Object(map) => {
            // HCL goes through objects by their keys
            let sorted: BTreeMap<String, Value> = map.into_iter().collect();
            Ok(sorted.into_iter().map(|(key, value)| (Value::String(key), value)).collect())
        }
        other => failed(format!("`for` goes through lists and objects, not {}", functions::kind(&other))),
    }
}

fn number_of(number: &hcl::Number) -> Value {
    match (number.as_i64(), number.as_f64()) {
        (Some(whole), _) => Value::from(whole),
        (None, Some(float)) => Value::from(float),
        (None, None) => Value::Null,
    }
}

/// A value as text, where it is one thing.
pub(super) fn text_of(value: &Value) -> Result<String, BakeError> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Bool(value) => Ok(value.to_string()),
        Value::Number(number) => Ok(number.to_string()),
        other => failed(format!("a text is needed, not {}", functions::kind(other))),
    }
}

/// A value as true or false.
pub(super) fn truth_of(value: &Value) -> Result<bool, BakeError> {
    match value {
        Value::Bool(value) => Ok(*value),
        Value::String(text) if text == "true" || text == "1" => Ok(true),
        Value::String(text) if text == "false" || text == "0" => Ok(false),
        other => failed(format!("true or false is needed, not {}", functions::kind(other))),
    }
}
