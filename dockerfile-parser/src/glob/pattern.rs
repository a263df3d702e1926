//! A compiled pattern.

use nom::branch::alt;
use nom::bytes::complete::tag;
use nom::character::complete::{anychar, char, none_of};
use nom::combinator::{eof, map, opt, value};
use nom::multi::{many0, many1};
use nom::sequence::{delimited, preceded};
use nom::{IResult, Parser};

/// Why a pattern is malformed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("malformed pattern `{pattern}`")]
pub struct GlobError {
    /// The pattern.
    pub pattern: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Literal(char),
    /// `?`
    Any,
    /// `*`
    Star,
    /// `[…]`
    Class {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
    /// `**` before more: nothing, or directories with the slash after them. [`Token::Directories`] follows it.
    MaybeDirectories,
    /// The directories that [`Token::MaybeDirectories`] may begin.
    Directories,
    /// `**` at the end, or before text without a slash: anything.
    Everything,
}

/// The shapes that need no automaton.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Shape {
    /// Only literals.
    Exact(String),
    /// `**/` and one component with at most one star.
    AnyDepth(Component),
    /// Everything else; the literals it begins with reject most paths at once.
    General { prefix: String },
}

/// A path component with at most one star.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Component {
    before: String,
    /// What follows the star, if there is one.
    after: Option<String>,
}

impl Component {
    fn matches(&self, component: &str) -> bool {
        match &self.after {
            None => component == self.before,
            Some(after) => component
                .strip_prefix(self.before.as_str())
                .is_some_and(|rest| rest.len() >= after.len() && rest.ends_with(after.as_str())),
        }
    }
}

/// A compiled pattern; see the [module](crate::glob).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glob {
    tokens: Vec<Token>,
    shape: Shape,
}

impl Glob {
    /// Compiles a pattern of Go's `filepath.Match`, where `**` means no more than `*`.
    ///
    /// # Errors
    /// When it is malformed.
    pub fn new(pattern: &str) -> Result<Self, GlobError> {
        Ok(Self::from_tokens(parse(pattern)?))
    }

    /// Compiles a pattern in which `**` crosses directories.
    ///
    /// # Errors
    /// When it is malformed.
    pub fn deep(pattern: &str) -> Result<Self, GlobError> {
        Ok(Self::from_tokens(deepen(parse(pattern)?)))
    }

    fn from_tokens(mut tokens: Vec<Token>) -> Self {
        tokens.dedup_by(|a, b| *a == Token::Star && *b == Token::Star);
        let shape = shape(&tokens);
        Self { tokens, shape }
    }

    /// Whether the pattern matches the whole path.
    pub fn matches(&self, path: &str) -> bool {
        match &self.shape {
            Shape::Exact(text) => path == text,
            Shape::AnyDepth(component) => component.matches(path.rsplit('/').next().unwrap_or(path)),
            Shape::General { prefix } => path.starts_with(prefix.as_str()) && self.run(path, false).0,
        }
    }

    /// Whether the pattern matches the path or any directory above it.
    pub fn matches_or_parent(&self, path: &str) -> bool {
        match &self.shape {
            Shape::Exact(text) => {
                path.strip_prefix(text.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            }
            Shape::AnyDepth(component) => path.split('/').any(|part| component.matches(part)),
            Shape::General { prefix } => path.starts_with(prefix.as_str()) && self.run(path, true).0,
        }
    }

    /// Whether the pattern could match some path below the directory `dir`, itself not counted.
    pub fn may_match_below(&self, dir: &str) -> bool {
        match &self.shape {
            Shape::Exact(text) => text.strip_prefix(dir).is_some_and(|rest| rest.starts_with('/')),
            Shape::AnyDepth(_) => true,
            Shape::General { .. } => self.run(&format!("{dir}/"), false).1,
        }
    }

    /// Reads `path`; says whether it is matched (with `or_parent`, whether any directory on the way is), and whether
    /// a longer path still could be.
    fn run(&self, path: &str, or_parent: bool) -> (bool, bool) {
        let mut states = States::new(self.tokens.len() + 1);
        let mut next = States::new(self.tokens.len() + 1);
        self.enter(&mut states, 0);
        for ch in path.chars() {
            if ch == '/' && or_parent && states.has(self.tokens.len()) {
                return (true, true);
            }
            next.clear();
            states.each(|state| self.step(&mut next, state, ch));
            std::mem::swap(&mut states, &mut next);
            if states.is_empty() {
                return (false, false);
            }
        }
        let matched = states.has(self.tokens.len());
        let mut alive = false;
        states.each(|state| alive |= state < self.tokens.len());
        (matched, alive)
    }

    /// Adds a state and those it leads to without reading anything.
    fn enter(&self, states: &mut States, state: usize) {
        let mut at = state;
        loop {
            if states.add(at) {
                return;
            }
            match self.tokens.get(at) {
                Some(Token::Star | Token::Everything) => at += 1,
                Some(Token::MaybeDirectories) => {
                    states.add(at + 1);
                    at += 2;
                }
                _ => return,
            }
        }
    }

    /// Adds the states that reading `ch` in `state` leads to.
    fn step(&self, next: &mut States, state: usize, ch: char) {
        match self.tokens.get(state) {
            Some(Token::Literal(literal)) if *literal == ch => self.enter(next, state + 1),
            Some(Token::Any) if ch != '/' => self.enter(next, state + 1),
            Some(Token::Star) if ch != '/' => self.enter(next, state),
            Some(Token::Class { negated, ranges }) => {
                let inside = ranges.iter().any(|(low, high)| (*low..=*high).contains(&ch));
                if inside != *negated {
                    self.enter(next, state + 1);
                }
            }
            Some(Token::Directories) => {
                next.add(state);
                if ch == '/' {
                    self.enter(next, state + 1);
                }
            }
            Some(Token::Everything) => self.enter(next, state),
            _ => {}
        }
    }
}

/// A set of automaton states; patterns of ordinary length need no allocation.
struct States {
    few: [u64; States::FEW],
    many: Vec<u64>,
}

impl States {
    const FEW: usize = 2;

    fn new(count: usize) -> Self {
        let words = count.div_ceil(64);
        Self { few: [0; Self::FEW], many: if words > Self::FEW { vec![0; words] } else { Vec::new() } }
    }

    fn words(&self) -> &[u64] {
        if self.many.is_empty() { &self.few } else { &self.many }
    }

    fn words_mut(&mut self) -> &mut [u64] {
        if self.many.is_empty() { &mut self.few } else { &mut self.many }
    }

    /// Adds a state; says whether it was there.
    fn add(&mut self, state: usize) -> bool {
        let word = &mut self.words_mut()[state / 64];
        let bit = 1 << (state % 64);
        let had = *word & bit != 0;
        *word |= bit;
        had
    }

    fn has(&self, state: usize) -> bool {
        self.words()[state / 64] & (1 << (state % 64)) != 0
    }

    fn clear(&mut self) {
        self.words_mut().fill(0);
    }

    fn is_empty(&self) -> bool {
        self.words().iter().all(|word| *word == 0)
    }

    fn each(&self, mut visit: impl FnMut(usize)) {
        for (index, word) in self.words().iter().enumerate() {
            let mut rest = *word;
            while rest != 0 {
                visit(index * 64 + rest.trailing_zeros() as usize);
                rest &= rest - 1;
            }
        }
    }
}

fn shape(tokens: &[Token]) -> Shape {
    if let Some(text) = literals(tokens) {
        return Shape::Exact(text);
    }
    if let [Token::MaybeDirectories, Token::Directories, rest @ ..] = tokens
        && let Some(component) = component(rest)
    {
        return Shape::AnyDepth(component);
    }
    let length = tokens.iter().take_while(|token| matches!(token, Token::Literal(_))).count();
    Shape::General { prefix: literals(&tokens[..length]).unwrap_or_default() }
}

fn literals(tokens: &[Token]) -> Option<String> {
    tokens.iter().map(|token| if let Token::Literal(ch) = token { Some(*ch) } else { None }).collect()
}

fn component(tokens: &[Token]) -> Option<Component> {
    if tokens.contains(&Token::Literal('/')) {
        return None;
    }
    match tokens.iter().position(|token| *token == Token::Star) {
        None => Some(Component { before: literals(tokens)?, after: None }),
        Some(star) => Some(Component {
            before: literals(&tokens[..star])?,
            after: Some(literals(&tokens[star + 1..])?),
        }),
    }
}

/// Turns two neighbouring stars into what `**` means, as the Engine's matcher does: a slash after them belongs to
/// them; at the end they match anything; before other text they match directories, or, at the very start and with no
/// slash and no other wildcard after them, anything that ends so.
fn deepen(tokens: Vec<Token>) -> Vec<Token> {
    let mut deep = Vec::with_capacity(tokens.len());
    let mut at = 0;
    while at < tokens.len() {
        if tokens[at] != Token::Star || tokens.get(at + 1) != Some(&Token::Star) {
            deep.push(tokens[at].clone());
            at += 1;
            continue;
        }
        let has_slash = tokens.get(at + 2) == Some(&Token::Literal('/'));
        let rest = &tokens[at + 2 + usize::from(has_slash)..];
        let is_suffix = at == 0 && !has_slash && literals(rest).is_some();
        if rest.is_empty() || is_suffix {
            deep.push(Token::Everything);
        } else {
            deep.extend([Token::MaybeDirectories, Token::Directories]);
        }
        at = tokens.len() - rest.len();
    }
    deep
}

fn parse(pattern: &str) -> Result<Vec<Token>, GlobError> {
    let token = alt((
        value(Token::Star, char('*')),
        value(Token::Any, char('?')),
        class,
        map(preceded(char('\\'), anychar), Token::Literal),
        map(none_of("[\\"), Token::Literal),
    ));
    let parsed: IResult<&str, _> = (many0(token), eof).parse(pattern);
    parsed.map(|(_, (tokens, _))| tokens).map_err(|_| GlobError { pattern: pattern.to_owned() })
}

/// `[`, perhaps `^`, one or more characters or ranges, `]`; `-` and `]` need a backslash as members.
fn class(input: &str) -> IResult<&str, Token> {
    let member = || alt((preceded(char('\\'), anychar), none_of("\\-]")));
    let range = map((member(), opt(preceded(char('-'), member()))), |(low, high)| (low, high.unwrap_or(low)));
    map(
        delimited(char('['), (map(opt(tag("^")), |caret| caret.is_some()), many1(range)), char(']')),
        |(negated, ranges)| Token::Class { negated, ranges },
    )
    .parse(input)
}
