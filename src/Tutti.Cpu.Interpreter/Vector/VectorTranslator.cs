using Iced.Intel;

namespace Tutti.Cpu.Interpreter;

/// <summary>x87, MMX, SSE and the bit-manipulation and crypto extensions.</summary>
internal static unsafe class VectorTranslator
{
    public static bool TryTranslate(in Instruction instruction, Op* op, ref TranslationContext context) => false;
}
