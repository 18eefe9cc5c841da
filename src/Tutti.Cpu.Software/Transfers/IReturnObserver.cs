using Tutti.X86;

namespace Tutti.Cpu.Software;

/// <summary>Is told which returns from interrupts are plain, and may do the next such return by itself.</summary>
public interface IReturnObserver
{
    /// <summary>
    /// IRETQ at level 0 has gone to 64-bit code of level 0 or 3 by descriptors of the GDT, which both have their accessed bit set now;
    /// <paramref name="stackDescriptor"/> is 0 for a null selector.
    /// </summary>
    void NoteReturn(ushort code, ushort stack, Descriptor codeDescriptor, Descriptor stackDescriptor);
}
