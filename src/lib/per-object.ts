/**
 * Remembers what a pure function made of an object for as long as the object lives. For objects that are never changed, as those of the config
 * store and of the registry are: what is made anew with every push then costs only for what is new.
 */
export function perObject<Key extends object, Value>(make: (object: Key) => Value): (object: Key) => Value {
  const known = new WeakMap<Key, { readonly value: Value }>();
  return (object) => {
    let entry = known.get(object);
    if (!entry) {
      entry = { value: make(object) };
      known.set(object, entry);
    }
    return entry.value;
  };
}
