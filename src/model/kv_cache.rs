//! Keys and values of the tokens seen so far, preallocated, cut back to a common prefix by lowering a
//! length.
//!
//! Keys are stored transposed, (kv_head, head_dim, position): the scores of a query are then sums over
//! whole vectors of positions, without a reduction per key. Values are (kv_head, position, head_dim).

use super::config::ModelConfig;
use crate::tokenizer::TokenId;

/// The cache of one conversation between an editor and the model.
pub struct KvCache {
    tokens: Vec<TokenId>,
    capacity: usize,
    layers: Vec<LayerCache>,
}

/// Keys and values of one layer.
pub(super) struct LayerCache {
    pub(super) keys: Vec<f32>,
    pub(super) values: Vec<f32>,
}

impl KvCache {
    /// An empty cache for up to `capacity` tokens. Memory: 8 bytes × capacity × layers × kv features.
    pub fn new(config: &ModelConfig, capacity: usize) -> KvCache {
        // A multiple of 16 keeps the rows of the transposed keys aligned to vectors.
        let capacity = capacity.next_multiple_of(16);
        let layers = (0..config.num_hidden_layers)
            .map(|_| LayerCache {
                keys: vec![0.0; capacity * config.kv_size()],
                values: vec![0.0; capacity * config.kv_size()],
            })
            .collect();
        KvCache { tokens: Vec::with_capacity(capacity), capacity, layers }
    }

    /// Tokens whose keys and values are held, in order.
    pub fn tokens(&self) -> &[TokenId] {
        &self.tokens
    }

    /// Tokens that fit.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Forgets everything after the first `length` tokens.
    pub fn truncate(&mut self, length: usize) {
        self.tokens.truncate(length);
    }

    /// Keeps what `tokens` has in common with the cache; returns how many tokens that is.
    pub fn keep_common_prefix(&mut self, tokens: &[TokenId]) -> usize {
        let common = self.tokens.iter().zip(tokens).take_while(|(a, b)| a == b).count();
        self.truncate(common);
        common
    }

    pub(super) fn layer(&mut self, layer: usize) -> &mut LayerCache {
        &mut self.layers[layer]
    }

    pub(super) fn extend(&mut self, tokens: &[TokenId]) {
        self.tokens.extend_from_slice(tokens);
    }
}
