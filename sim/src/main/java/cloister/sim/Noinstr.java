package cloister.sim;

import java.lang.annotation.ElementType;
import java.lang.annotation.Retention;
import java.lang.annotation.RetentionPolicy;
import java.lang.annotation.Target;

/// Marks a method of the host kernel that runs while a guest's state is in the processor, between [Scheduler#beginUninterruptible] and
/// `endUninterruptible`: it allocates nothing, takes no lock, and calls nothing but its like and the processor. A test looks at the
/// bytecode. [LINUX noinstr, Documentation/core-api/entry.rst]
@Target({ElementType.METHOD, ElementType.CONSTRUCTOR})
@Retention(RetentionPolicy.CLASS)
public @interface Noinstr {
}
