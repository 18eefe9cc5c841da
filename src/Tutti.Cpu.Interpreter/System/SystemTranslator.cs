using Iced.Intel;

namespace Tutti.Cpu.Interpreter;

/// <summary>Segments, far transfers, interrupts, system registers, ports.</summary>
internal static unsafe class SystemTranslator
{
    public static bool TryTranslate(in Instruction instruction, Op* op, ref TranslationContext context) => false;
}
